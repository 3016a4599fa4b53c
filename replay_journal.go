package leat

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/leatgo/leat/internal/failpoint"
	"github.com/leatgo/leat/internal/jsonlines"
	"github.com/leatgo/leat/internal/sealed"
)

// replayJournal is the log of letters that were taken over for replay. It makes
// repeating safe (by their ids), and gives each an offset for good (rule E7). Whoever
// writes it has the store's lock.
type replayJournal struct {
	path  string
	log   *jsonlines.Log
	id    string // of the offset space (rule A2-1)
	form  int    // version
	next  int64
	begun int64                          // next, and
	size  int64                          // the length, before this run took letters over
	known map[[16]byte]struct{}          // ids, hashed
	homes map[string]map[string]struct{} // by source: the partitions its letters were first read from
}

// journalVersion is that of a journal that is begun now. The lines of version 2 end with
// a checksum; a journal of version 1 goes on without.
const journalVersion = 2

// journalLine is one line. The first one has Log and Version, all others a letter.
type journalLine struct {
	Log     string      `json:"log,omitempty"`
	Version int         `json:"version,omitempty"`
	Offset  int64       `json:"offset,omitempty"`
	Letter  *DeadLetter `json:"letter,omitempty"`
}

func openReplayJournal(path string) (*replayJournal, error) {
	if err := flippedLast(path); err != nil {
		return nil, err
	}
	log, err := jsonlines.Open(path)
	if err != nil {
		return nil, fmt.Errorf("replay: %w", err)
	}
	j := &replayJournal{path: path, log: log, next: 1, known: map[[16]byte]struct{}{}, homes: map[string]map[string]struct{}{}}
	err = j.read(func(offset int64, l *DeadLetter) error {
		j.note(offset, l)
		return nil
	})
	if err == nil && j.id == "" { // new
		var b [16]byte
		rand.Read(b[:])
		j.id, j.form = hex.EncodeToString(b[:]), journalVersion
		err = j.write(journalLine{Log: j.id, Version: journalVersion})
	}
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	j.begun, j.size = j.next, log.Size()
	return j, nil
}

// read gives all letters in order.
func (j *replayJournal) read(yield func(offset int64, l *DeadLetter) error) error {
	line, last := 0, int64(0)
	return jsonlines.Scan(j.path, func(b []byte) error {
		line++
		var l journalLine
		err := json.Unmarshal(b, &l)
		if line == 1 {
			j.form = l.Version
		}
		if err == nil && j.form != 1 && j.form <= journalVersion {
			err = sealed.Check(b)
		}
		switch {
		case err != nil:
		case line == 1 && l.Log != "" && l.Version >= 1 && l.Version <= journalVersion:
			j.id = l.Log
			return nil
		case line == 1 && l.Version > journalVersion:
			err = fmt.Errorf("it has version %d, and this program knows %d: use a newer one", l.Version, journalVersion)
		case line == 1:
			err = errors.New("it does not begin with the log's id")
		case l.Letter == nil || l.Offset <= last:
			err = fmt.Errorf("no letter, or offset %d after %d", l.Offset, last)
		}
		if err != nil {
			return damagedJournal(j.path, fmt.Sprint("line ", line), err)
		}
		last = l.Offset
		return yield(l.Offset, l.Letter)
	})
}

func damagedJournal(path, line string, err error) error {
	return fmt.Errorf("replay: %s, %s: %w. It says which letters were replayed, so it must not be guessed: put back a copy of the state folder", path, line, err)
}

// beyond is the error of a position that the journal knew nothing of.
func (j *replayJournal) beyond(at int64) error {
	return fmt.Errorf("rule A2-1: %s ends at %d, but letters up to %d have been replayed: it is an older copy than the positions; put the newest one back", j.path, j.begun, at)
}

// giveBack takes the letters of this run out again.
func (j *replayJournal) giveBack() error {
	log, err := jsonlines.Open(j.path)
	if err == nil {
		err = errors.Join(log.Truncate(j.size), log.Close())
	}
	if err != nil {
		return fmt.Errorf("replay: %w", err)
	}
	return nil
}

// flippedLast tells a last line that was damaged from one that a crash has torn, and that
// is cut off: what was torn ends in the middle, or in zeros.
func flippedLast(path string) error {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("replay: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fmt.Errorf("replay: %w", err)
	}
	tail := make([]byte, min(info.Size(), jsonlines.MaxLine+1))
	if _, err := f.ReadAt(tail, info.Size()-int64(len(tail))); err != nil {
		return fmt.Errorf("replay: %w", err)
	}
	if len(tail) == 0 {
		return nil
	}
	last := tail[bytes.LastIndexByte(tail[:len(tail)-1], '\n')+1:]
	switch whole := last[len(last)-1] == '\n'; {
	case whole && !json.Valid(last) && bytes.IndexByte(last, 0) < 0:
		return damagedJournal(path, "the last line", sealed.Err)
	case !whole && sealed.Check(last[:len(last)-1]) == nil:
		return damagedJournal(path, "the last line", errors.New("its line end is damaged"))
	}
	return nil
}

func (j *replayJournal) note(offset int64, l *DeadLetter) {
	j.next = offset + 1
	j.known[letterKey(l.ID)] = struct{}{}
	if j.homes[l.Source] == nil {
		j.homes[l.Source] = map[string]struct{}{}
	}
	home, _ := l.home()
	j.homes[l.Source][home] = struct{}{}
}

func letterKey(id string) [16]byte {
	sum := sha256.Sum256([]byte(id))
	return [16]byte(sum[:16])
}

func (j *replayJournal) has(id string) bool {
	_, known := j.known[letterKey(id)]
	return known
}

// append takes a letter over; sync makes that durable.
func (j *replayJournal) append(l DeadLetter) error {
	if err := j.write(journalLine{Offset: j.next, Letter: &l}); err != nil {
		return err
	}
	j.note(j.next, &l)
	return nil
}

func (j *replayJournal) write(line journalLine) error {
	b, err := json.Marshal(line)
	switch {
	case err != nil:
	case j.form == 1:
		err = j.log.Append(append(b, '\n'))
	default:
		err = j.log.Append(sealed.Append(nil, b))
	}
	if err == nil {
		err = failpoint.Hit("replay/append")
	}
	if err != nil {
		return fmt.Errorf("replay: %w", err)
	}
	return nil
}

func (j *replayJournal) sync() error {
	if err := j.log.Sync(); err != nil {
		return fmt.Errorf("replay: %w", err)
	}
	return nil
}

func (j *replayJournal) close() error { return j.log.Close() }
