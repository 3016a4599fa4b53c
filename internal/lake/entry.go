package lake

import (
	"bytes"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/leatgo/leat"
)

// version 2 has an epoch for each partition. In version 1 an owner had one for all, since it
// was one process; what version 1 has written is read as what it means in version 2
// (rule H6). No program writes it any more, so it is at the beginning of a chain only.
const version = 2

// kind says what an entry does.
type kind string

const (
	kindCommit   kind = "commit"   // adds files and moves positions
	kindTakeover kind = "takeover" // begins an epoch of partitions (rule E2)
	kindReplace  kind = "replace"  // one file for several
	kindSnapshot kind = "snapshot" // all of the above, summed up
)

// entry is the content of _leat/<seq>.json, and of a pending entry (rule F2).
type entry struct {
	Version   int        `json:"version"`
	Seq       int64      `json:"seq"`
	Kind      kind       `json:"kind"`
	ID        string     `json:"id"`              // of the attempt: whether an entry is one's own (rule E4)
	Epoch     int64      `json:"epoch,omitempty"` // version 1: of all partitions
	Owner     owner      `json:"owner"`
	Time      time.Time  `json:"time"`
	Files     []file     `json:"files,omitempty"`
	Removed   []string   `json:"removed,omitempty"`
	Positions []movement `json:"positions,omitempty"`
	Schema    string     `json:"schema,omitempty"`
}

// file is a data file. Path and Tmp are relative to the root, with slashes.
type file struct {
	Path     string     `json:"path"`
	Tmp      string     `json:"tmp,omitempty"` // its name before the commit
	Bytes    int64      `json:"bytes"`
	Rows     int64      `json:"rows"`
	Checksum string     `json:"checksum"` // of all its bytes
	Min      *time.Time `json:"min,omitempty"`
	Max      *time.Time `json:"max,omitempty"`
	Since    int64      `json:"since,omitempty"` // of a replacing file: the oldest entry whose rows it holds
}

// movement is how far a commit moves a partition: [from, to). Of a takeover it is the
// partition and its new epoch only.
type movement struct {
	Partition text      `json:"partition"`
	Epoch     int64     `json:"epoch"`
	From      *position `json:"from,omitempty"` // missing: nothing was held (rule E7)
	To        *position `json:"to,omitempty"`
}

type position struct {
	Next   int64 `json:"next"`
	Resume text  `json:"resume,omitzero"`
	Log    text  `json:"log,omitzero"`
}

func positionOf(p leat.Position) *position {
	return &position{p.Next, text(p.Resume), text(p.Log)}
}

func (p position) leat() leat.Position {
	return leat.Position{Next: p.Next, Resume: string(p.Resume), Log: string(p.Log)}
}

// snapshot is the content of _leat/<seq>.snapshot.json: what all entries up to
// seq come to.
type snapshot struct {
	Version int            `json:"version"`
	Seq     int64          `json:"seq"`
	Last    string         `json:"last,omitempty"` // the id of entry seq
	Kind    kind           `json:"kind"`
	Time    time.Time      `json:"time"`
	Owners  []ownerState   `json:"owners"`
	Schemas []string       `json:"schemas,omitempty"`
	Files   []snapshotFile `json:"files"`
	Removed []string       `json:"removed,omitempty"` // replaced, and not deleted yet
}

type snapshotFile struct {
	file
	Seq    int64 `json:"seq"`
	Owner  int   `json:"owner"`  // index of Owners
	Schema int   `json:"schema"` // index of Schemas
}

type ownerState struct {
	Owner     owner          `json:"owner"`
	Epoch     int64          `json:"epoch,omitempty"` // version 1: of all partitions
	Positions []heldPosition `json:"positions,omitempty"`
}

type heldPosition struct {
	Partition text      `json:"partition"`
	Epoch     int64     `json:"epoch"`
	At        *position `json:"at,omitempty"` // missing: nothing is held (rule E7)
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
	if bytes.HasPrefix(b, []byte("{")) {
		var o base64Text
		err := json.Unmarshal(b, &o)
		*t = text(o.Base64)
		return err
	}
	return json.Unmarshal(b, (*string)(t))
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(crc uint32) string { return fmt.Sprintf("crc32c:%08x", crc) }

const (
	sealBegin = `,"checksum":"`
	sealEnd   = "\"}\n"
	sealLen   = len(sealBegin) + len("crc32c:00000000") + len(sealEnd)
)

// seal writes v, a JSON object, with a checksum over all of it as its last field.
func seal(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	sum := checksum(crc32.Checksum(b, castagnoli))
	return append(b[:len(b)-1], sealBegin+sum+sealEnd...), nil
}

// decode reads an entry.
func decode(b []byte) (*entry, error) {
	var e entry
	if err := unseal(b, &e); err != nil {
		return nil, err
	}
	if e.Version == 1 {
		for i := range e.Positions {
			e.Positions[i].Epoch = e.Epoch
		}
	}
	return &e, nil
}

// unseal reads what seal wrote into v. The version is judged before the rest.
func unseal(b []byte, v any) error {
	if len(b) <= sealLen || !strings.HasPrefix(string(b[len(b)-sealLen:]), sealBegin) {
		return fmt.Errorf("it ends in the middle (%d bytes)", len(b))
	}
	end := len(b) - sealLen
	body := append(bytes.Clone(b[:end]), '}')
	want := string(b[end+len(sealBegin) : len(b)-len(sealEnd)])
	if got := checksum(crc32.Checksum(body, castagnoli)); got != want || string(b[len(b)-len(sealEnd):]) != sealEnd {
		return fmt.Errorf("its bytes are not those that were written (%s, expected %s)", got, want)
	}
	var head struct {
		Version int `json:"version"`
	}
	if err := json.Unmarshal(body, &head); err != nil {
		return err
	}
	if head.Version < 1 || head.Version > version {
		return fmt.Errorf("it has version %d; this program knows versions 1 to %d", head.Version, version)
	}
	return json.Unmarshal(body, v)
}
