package jsonsink

import (
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/leatgo/leat"
)

const (
	sidecarSuffix  = ".leat"
	sidecarVersion = 1
)

// sidecar is the content of <Path>.leat.
type sidecar struct {
	Version int     `json:"version"`
	Epoch   int64   `json:"epoch"`  // grows with every Open: an older owner is fenced (rule E3)
	Length  int64   `json:"length"` // committed bytes of the file
	Tail    string  `json:"tail"`   // checksum of the last of them
	Owners  []owner `json:"owners"`
}

// owner is what one sink of one pipeline has put into the file.
type owner struct {
	Pipeline  text       `json:"pipeline"`
	Sink      text       `json:"sink"`
	UpdatedAt string     `json:"updated_at"`
	Positions []position `json:"positions"`
}

type position struct {
	Partition text  `json:"partition"`
	Next      int64 `json:"next"`
	Resume    text  `json:"resume,omitzero"`
	Log       text  `json:"log,omitzero"`
}

// text is any bytes: JSON alone would change what is not UTF-8, and a partition
// under another name would count as one of which nothing is held.
type text string

type base64Text struct {
	Base64 []byte `json:"base64"`
}

// MarshalJSON writes a string, or {"base64": "…"} for what no string can hold.
func (t text) MarshalJSON() ([]byte, error) {
	if utf8.ValidString(string(t)) {
		return json.Marshal(string(t))
	}
	return json.Marshal(base64Text{[]byte(t)})
}

// UnmarshalJSON reads what MarshalJSON wrote.
func (t *text) UnmarshalJSON(b []byte) error {
	if strings.HasPrefix(string(b), "{") {
		var o base64Text
		err := json.Unmarshal(b, &o)
		*t = text(o.Base64)
		return err
	}
	return json.Unmarshal(b, (*string)(t))
}

// readSidecar returns nil when there is none.
func readSidecar(path string) (*sidecar, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var c sidecar
	if err := json.Unmarshal(b, &c); err != nil {
		return nil, fmt.Errorf("the sidecar %s can't be read (%w): restore it, or start over by deleting it together with the file beside it", path, err)
	}
	if c.Version != sidecarVersion {
		return nil, fmt.Errorf("the sidecar %s has version %d; this program knows version %d", path, c.Version, sidecarVersion)
	}
	if c.Length < 0 {
		return nil, fmt.Errorf("the sidecar %s is damaged: length %d", path, c.Length)
	}
	return &c, nil
}

func (c *sidecar) encode() ([]byte, error) {
	b, err := json.MarshalIndent(c, "", "  ")
	return append(b, '\n'), err
}

// positions are those of one owner, by partition; never nil.
func (c *sidecar) positions(pipeline, sink string) map[string]leat.Position {
	out := map[string]leat.Position{}
	for _, o := range c.Owners {
		if string(o.Pipeline) == pipeline && string(o.Sink) == sink {
			for _, p := range o.Positions {
				out[string(p.Partition)] = leat.Position{Next: p.Next, Resume: string(p.Resume), Log: string(p.Log)}
			}
		}
	}
	return out
}

// with is a copy of c in which one owner's positions are at.
func (c *sidecar) with(pipeline, sink string, at map[string]leat.Position) *sidecar {
	o := owner{Pipeline: text(pipeline), Sink: text(sink), UpdatedAt: time.Now().UTC().Format(time.RFC3339)}
	for _, p := range slices.Sorted(maps.Keys(at)) {
		o.Positions = append(o.Positions, position{text(p), at[p].Next, text(at[p].Resume), text(at[p].Log)})
	}
	out := *c
	out.Owners = slices.DeleteFunc(slices.Clone(c.Owners), func(other owner) bool {
		return other.Pipeline == o.Pipeline && other.Sink == o.Sink
	})
	out.Owners = append(out.Owners, o)
	return &out
}

// tailOf is a checksum of the last bytes of the committed part: it tells a file
// that was edited, or swapped for one at least as long, without reading it all.
func tailOf(f io.ReaderAt, length int64) (string, error) {
	b := make([]byte, min(length, 4096))
	if _, err := f.ReadAt(b, length-int64(len(b))); err != nil {
		return "", err
	}
	return fmt.Sprintf("crc32c:%08x", crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli))), nil
}
