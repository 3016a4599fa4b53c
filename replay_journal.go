package leat

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/leatgo/leat/internal/failpoint"
	"github.com/leatgo/leat/internal/jsonlines"
)

// replayJournal is the log of letters that were taken over for replay. It makes
// repeating safe (by their ids), and gives each an offset for good (rule E7). Whoever
// writes it has the store's lock.
type replayJournal struct {
	path  string
	log   *jsonlines.Log
	id    string // of the offset space (rule A2-1)
	next  int64
	known map[[16]byte]struct{}          // ids, hashed
	homes map[string]map[string]struct{} // by source: the partitions its letters were first read from
}

const journalVersion = 1

// journalLine is one line. The first one has Log and Version, all others a letter.
type journalLine struct {
	Log     string      `json:"log,omitempty"`
	Version int         `json:"version,omitempty"`
	Offset  int64       `json:"offset,omitempty"`
	Letter  *DeadLetter `json:"letter,omitempty"`
}

func openReplayJournal(path string) (*replayJournal, error) {
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
		j.id = hex.EncodeToString(b[:])
		err = j.write(journalLine{Log: j.id, Version: journalVersion})
	}
	if err != nil {
		return nil, errors.Join(err, log.Close())
	}
	return j, nil
}

// read gives all letters in order.
func (j *replayJournal) read(yield func(offset int64, l *DeadLetter) error) error {
	line, last := 0, int64(0)
	return jsonlines.Scan(j.path, func(b []byte) error {
		line++
		var l journalLine
		err := json.Unmarshal(b, &l)
		switch {
		case err != nil:
		case line == 1 && l.Log != "" && l.Version == journalVersion:
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
			return fmt.Errorf("replay: %s, line %d: %w. It says which letters were replayed, so it must not be guessed: put back a copy of the state folder", j.path, line, err)
		}
		last = l.Offset
		return yield(l.Offset, l.Letter)
	})
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
	if err == nil {
		err = j.log.Append(append(b, '\n'))
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
