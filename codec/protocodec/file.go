package protocodec

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strings"

	"google.golang.org/protobuf/types/descriptorpb"
)

// file is what of a schema is needed: which messages it has, in which order.
type file struct {
	pkg      string
	messages []message
}

type message struct {
	name   string
	hidden bool // the entry of a map, or a group: some serializers count it, some do not
	nested []message
}

// at gives the full names of the message that has this place: one, or two where serializers
// disagree.
func (f *file) at(index []int) []string {
	var names []string
	for _, all := range []bool{false, true} {
		name, list, ok := f.pkg, f.messages, true
		for _, i := range index {
			m := nth(list, i, all)
			if m == nil {
				ok = false
				break
			}
			name, list = join(name, m.name), m.nested
		}
		if ok && (len(names) == 0 || names[0] != name) {
			names = append(names, name)
		}
	}
	return names
}

func nth(list []message, i int, all bool) *message {
	for k := range list {
		if m := &list[k]; all || !m.hidden {
			if i == 0 {
				return m
			}
			i--
		}
	}
	return nil
}

// find gives the place of a message, hidden ones not counted.
func (f *file) find(name string) []int {
	var walk func(list []message, prefix string) []int
	walk = func(list []message, prefix string) []int {
		i := 0
		for k := range list {
			m := &list[k]
			if m.hidden {
				continue
			}
			full := join(prefix, m.name)
			if full == name {
				return []int{i}
			}
			if strings.HasPrefix(name, full+".") {
				if rest := walk(m.nested, full); rest != nil {
					return append([]int{i}, rest...)
				}
			}
			i++
		}
		return nil
	}
	return walk(f.messages, f.pkg)
}

func join(a, b string) string {
	if a == "" {
		return b
	}
	return a + "." + b
}

// parseFile reads a schema as the registry gives it: an encoded descriptor in base64, or
// the text of a .proto file.
func parseFile(text string) (*file, error) {
	if raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(text)); err == nil {
		d := new(descriptorpb.FileDescriptorProto)
		if err := unmarshal.Unmarshal(raw, d); err == nil {
			return fileOf(d), nil
		}
	}
	s := scanner{text: text}
	f := new(file)
	if err := s.body(f, &f.messages, 0); err != nil {
		return nil, fmt.Errorf("as a .proto file, line %d: %w", 1+strings.Count(text[:s.at], "\n"), err)
	}
	if len(f.messages) == 0 {
		return nil, errors.New("it has no message")
	}
	return f, nil
}

func fileOf(d *descriptorpb.FileDescriptorProto) *file {
	return &file{pkg: d.GetPackage(), messages: messagesOf(d.GetMessageType(), groupsIn(d.GetExtension()))}
}

func messagesOf(ds []*descriptorpb.DescriptorProto, groups map[string]bool) []message {
	out := make([]message, len(ds))
	for i, d := range ds {
		fields := append(d.GetField()[:len(d.GetField()):len(d.GetField())], d.GetExtension()...)
		out[i] = message{name: d.GetName(), hidden: d.GetOptions().GetMapEntry() || groups[d.GetName()],
			nested: messagesOf(d.GetNestedType(), groupsIn(fields))}
	}
	return out
}

func groupsIn(fields []*descriptorpb.FieldDescriptorProto) map[string]bool {
	var groups map[string]bool
	for _, f := range fields {
		if f.GetType() == descriptorpb.FieldDescriptorProto_TYPE_GROUP {
			if groups == nil {
				groups = make(map[string]bool)
			}
			groups[f.GetTypeName()[strings.LastIndexByte(f.GetTypeName(), '.')+1:]] = true
		}
	}
	return groups
}
