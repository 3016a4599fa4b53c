package operate

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"
	"path/filepath"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/internal/durable"
	"github.com/leatgo/leat/internal/jsonlines"
)

// LettersFile is where a pipeline keeps its dead letters by default.
func LettersFile(stateDir string) string { return filepath.Join(stateDir, "dead-letters.jsonl") }

// Filter chooses letters; an empty field takes all.
type Filter struct {
	Class  leat.Class
	Node   string // that refused the row
	File   string // that the record came from
	Source string
	Newest bool // of letters of one row only the last: earlier ones were replayed and refused again
}

func (f Filter) takes(l *leat.DeadLetter) bool {
	return (f.Class == "" || f.Class == l.Class) && (f.Node == "" || f.Node == l.Node) &&
		(f.File == "" || f.File == l.File) && (f.Source == "" || f.Source == l.Source)
}

// Letters gives the chosen letters of a dead-letter file, oldest first. A file that is
// not there has none.
func Letters(path string, f Filter) iter.Seq2[leat.DeadLetter, error] {
	return func(yield func(leat.DeadLetter, error) bool) {
		var last map[row]string
		if f.Newest {
			last = map[row]string{}
			for l, err := range leat.DeadLetters(path) {
				if errors.Is(err, fs.ErrNotExist) {
					return
				}
				if err != nil {
					yield(l, err)
					return
				}
				last[rowOf(&l)] = l.ID
			}
		}
		for l, err := range leat.DeadLetters(path) {
			if errors.Is(err, fs.ErrNotExist) {
				return
			}
			if err == nil && (!f.takes(&l) || last != nil && last[rowOf(&l)] != l.ID) {
				continue
			}
			if !yield(l, err) {
				return
			}
		}
	}
}

// row is a row that was refused, over all its letters.
type row struct {
	partition string
	offset    leat.Offset
	gate      leat.LetterStep // the first node that refused it
}

func rowOf(l *leat.DeadLetter) row {
	r := row{l.Partition, l.Offset, leat.LetterStep{Node: l.Node, Ordinal: l.Ordinal}}
	if l.FirstPartition != "" {
		r.partition, r.offset = l.FirstPartition, l.FirstOffset
	}
	if len(l.Path) > 0 {
		r.gate = l.Path[0]
	}
	return r
}

// LetterStats counts letters.
type LetterStats struct {
	Letters int
	Again   int // of them: refused again after a replay
	ByClass map[string]int
	ByNode  map[string]int
	ByRule  map[string]int // by class/column/rule
	ByFile  map[string]int
}

// Count adds a letter.
func (s *LetterStats) Count(l *leat.DeadLetter) {
	s.Letters++
	if l.Attempt > 1 {
		s.Again++
	}
	dash := func(v string) string {
		if v == "" {
			return "-"
		}
		return v
	}
	add := func(m *map[string]int, key string) {
		if *m == nil {
			*m = map[string]int{}
		}
		(*m)[key]++
	}
	add(&s.ByClass, string(l.Class))
	add(&s.ByNode, l.Node)
	add(&s.ByRule, string(l.Class)+"/"+dash(l.Column)+"/"+dash(l.Rule))
	if l.File != "" {
		add(&s.ByFile, l.File)
	}
}

// ErrNoLetter says that no letter has the id.
var ErrNoLetter = errors.New("no such letter")

// Letter finds one letter by its id, or by a beginning of it that no other has.
func Letter(path, id string) (leat.DeadLetter, error) {
	var found leat.DeadLetter
	for l, err := range leat.DeadLetters(path) {
		switch {
		case err != nil:
			return leat.DeadLetter{}, err
		case l.ID == id && id != "":
			return l, nil
		case id == "" || len(l.ID) < len(id) || l.ID[:len(id)] != id:
		case found.ID != "" && found.ID != l.ID:
			return leat.DeadLetter{}, fmt.Errorf("several letters in %s begin with %s: give more of the id", path, id)
		default:
			found = l
		}
	}
	if found.ID == "" {
		return leat.DeadLetter{}, fmt.Errorf("%w in %s: %s", ErrNoLetter, path, id)
	}
	return found, nil
}

// Export writes letters to a file of their own, which leat.DeadLetters reads: what a
// program is to replay. A file that is there already is not replaced.
func Export(letters iter.Seq2[leat.DeadLetter, error], to string) (n int, err error) {
	if _, err := os.Lstat(to); err == nil {
		return 0, fmt.Errorf("%s: %w", to, fs.ErrExist)
	}
	tmp := to + ".tmp"
	if err := os.Remove(tmp); err != nil && !errors.Is(err, fs.ErrNotExist) { // of an export that was cut off
		return 0, err
	}
	log, err := jsonlines.Open(tmp)
	if err != nil {
		return 0, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, log.Close(), os.Remove(tmp))
		}
	}()
	for l, err := range letters {
		if err != nil {
			return 0, err
		}
		b, err := json.Marshal(&l)
		if err == nil {
			err = log.Append(append(b, '\n'))
		}
		if err != nil {
			return 0, fmt.Errorf("letter %s: %w", l.ID, err)
		}
		n++
	}
	if err := log.Close(); err != nil {
		return 0, err
	}
	return n, durable.RenameNoReplace(tmp, to)
}
