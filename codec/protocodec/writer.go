package protocodec

import (
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/sr"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/codec"
)

// newHeader gives the header of values of a topic, indexes included.
func (k *Codec[T]) newHeader(ctx context.Context, topic string) ([]byte, error) {
	subject := k.c.Subject
	if subject == nil {
		subject = codec.TopicName
	}
	full := string(k.desc.FullName())
	name := subject(topic, full)
	if k.c.Latest {
		s, err := k.c.Registry.Latest(ctx, name, serialized)
		if err != nil {
			return nil, err
		}
		var f *file
		if s.Type != sr.TypeProtobuf {
			err = fmt.Errorf("it is %s, not Protobuf", s.Type)
		} else {
			f, err = parseFile(s.Text)
		}
		if err == nil {
			if index := f.find(full); index != nil {
				return appendIndexes(codec.AppendHeader(nil, s.ID), index), nil
			}
			err = fmt.Errorf("it has no message %s", full)
		}
		// People can register another schema, so rows wait for them.
		return nil, leat.Transient(fmt.Errorf("protocodec: the newest schema of the subject %q (%d) can't be written with: %w", name, s.ID, err))
	}
	schema, err := k.schema(ctx, k.desc.ParentFile())
	if err != nil {
		return nil, err
	}
	id, _, err := k.find(ctx, name, schema)
	if err != nil {
		return nil, err
	}
	index := fileOf(protodesc.ToFileDescriptorProto(k.desc.ParentFile())).find(full)
	if index == nil {
		return nil, fmt.Errorf("protocodec: %s is a map's entry or a group, which has no place in its file", full)
	}
	return appendIndexes(codec.AppendHeader(nil, id), index), nil
}

func (k *Codec[T]) find(ctx context.Context, subject string, s sr.Schema) (id, version int, err error) {
	if k.c.Register {
		return k.c.Registry.Register(ctx, subject, s)
	}
	return k.c.Registry.Find(ctx, subject, s)
}

// schema is a file in the form that registries take from serializers: its descriptor in
// base64, with references to what it imports.
func (k *Codec[T]) schema(ctx context.Context, fd protoreflect.FileDescriptor) (sr.Schema, error) {
	raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(protodesc.ToFileDescriptorProto(fd))
	if err != nil {
		return sr.Schema{}, fmt.Errorf("protocodec: the file %s: %w", fd.Path(), err)
	}
	s := sr.Schema{Type: sr.TypeProtobuf, Schema: base64.StdEncoding.EncodeToString(raw)}
	for i := range fd.Imports().Len() {
		im := fd.Imports().Get(i)
		if builtIn(im.Path()) {
			continue
		}
		sub, err := k.schema(ctx, im.FileDescriptor)
		if err != nil {
			return sr.Schema{}, err
		}
		_, version, err := k.find(ctx, im.Path(), sub)
		if err != nil {
			return sr.Schema{}, err
		}
		s.References = append(s.References, sr.SchemaReference{Name: im.Path(), Subject: im.Path(), Version: version})
	}
	return s, nil
}

// builtIn is of files that registries bring with them.
func builtIn(path string) bool {
	return slices.ContainsFunc([]string{"google/protobuf/", "google/type/", "confluent/"}, func(p string) bool { return strings.HasPrefix(path, p) })
}
