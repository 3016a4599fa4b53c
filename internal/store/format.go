package store

import (
	"encoding/json"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"
)

// schema is the version of the file's content and the way to it from older ones (rule H6).
//
// To change the content: raise current.version, add the step from the version before, and add a file of the old version to
// the tests. A step that is in a release is never changed.
type schema struct {
	version int
	steps   map[int]func(*bbolt.Tx) error // by the version it starts from: rewrites the content for the next one
}

var current = schema{version: 2, steps: map[int]func(*bbolt.Tx) error{1: addSizes}}

// addSizes is the step from format 1, which had no notes and did not say how large the state is. Whether the first of its pieces
// is a snapshot it did not say either; taken for deltas, they are merged a little early.
func addSizes(tx *bbolt.Tx) error {
	payload, err := get(tx, checkpointBucket, lastKey)
	if err != nil {
		return err
	}
	h, err := decodeHead(payload)
	if err != nil {
		return err
	}
	for k, e := range h.State {
		for n := e.First; n < e.Next; n++ {
			piece, err := getPiece(tx, k, n)
			if err != nil {
				return fmt.Errorf("piece %d of the state of stage %q, partition %q: %w", n, k.stage, k.partition, err)
			}
			e.Deltas += int64(len(piece))
		}
		h.State[k] = e
	}
	return putHead(tx, h)
}

type formatJSON struct {
	Format int `json:"format"`
}

func putFormat(tx *bbolt.Tx, version int) error {
	payload, err := json.Marshal(formatJSON{version})
	if err != nil {
		return err
	}
	return put(tx, metaBucket, formatKey, payload)
}

// upgrade brings the file to sch.version, in one transaction: a crash in between leaves the old version.
func (s *Store) upgrade(sch schema) error {
	version, err := s.version()
	switch {
	case err != nil:
		return err
	case version == sch.version:
		return nil
	case version > sch.version:
		return fmt.Errorf("store: %s: %w: it has format %d and this program knows up to %d; run the newer program, or delete "+
			"the state folder to start anew", s.path, ErrNewer, version, sch.version)
	}
	err = s.guard(formatWhere, func() error {
		return s.db.Update(func(tx *bbolt.Tx) error {
			for v := version; v < sch.version; v++ {
				step := sch.steps[v]
				if step == nil {
					return fmt.Errorf("there is no way from format %d to %d", v, v+1)
				}
				if err := step(tx); err != nil {
					return fmt.Errorf("from format %d to %d: %w", v, v+1, err)
				}
			}
			return putFormat(tx, sch.version)
		})
	})
	if err != nil && !errors.Is(err, ErrCorrupt) {
		return fmt.Errorf("store: upgrade %s: %w", s.path, err)
	}
	return err
}

const formatWhere = "meta/format"

// version reads the version of the file's content.
func (s *Store) version() (int, error) {
	var have formatJSON
	err := s.guard(formatWhere, func() error {
		return s.db.View(func(tx *bbolt.Tx) error {
			payload, err := get(tx, metaBucket, formatKey)
			if err == nil {
				err = json.Unmarshal(payload, &have)
			}
			if err == nil && have.Format < 1 {
				err = errors.New("the version is missing")
			}
			if err != nil {
				return corrupt(s.path, formatWhere, err)
			}
			return nil
		})
	})
	return have.Format, err
}
