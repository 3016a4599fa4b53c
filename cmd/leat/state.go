package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/leatgo/leat/internal/statefile"
	"github.com/leatgo/leat/operate"
	"github.com/leatgo/leat/state"
)

// moveState exports and imports. The command links the PostgreSQL driver for it: the state
// of a pipeline that grows from one process to several has to get there somehow, and a
// program of one's own for that would be written at the wrong moment.
func moveState(c *call) (err error) {
	if (c.o.state == "") == (c.o.pg == "") {
		return errUsage{errors.New("state needs one of -state DIR and -pg DSN")}
	}
	config := state.PostgresConfig{DSN: c.o.pg, Schema: c.o.schema}
	switch c.args[0] {
	case "export":
		place := operate.StateFolder(c.o.state)
		if c.o.pg != "" {
			if c.o.pipeline == "" {
				return errUsage{errors.New("state export -pg needs -pipeline")}
			}
			place = state.PostgresArchive(config, c.o.pipeline)
		}
		to := c.out
		if c.o.out != "" {
			f, err := os.OpenFile(c.o.out, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
			if err != nil {
				return err
			}
			defer func() {
				if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
					_ = os.Remove(c.o.out)
				}
			}()
			to = f
		}
		moved, err := operate.ExportState(c.ctx, place, to, c.o.stage)
		if err == nil && c.o.out != "" {
			err = c.moved(moved, "exported to "+c.o.out)
		}
		return err
	case "import":
		if c.o.stage != "" {
			return errUsage{errors.New("-stage is for export")}
		}
		var from io.Reader = os.Stdin
		if c.o.file != "" {
			f, err := os.Open(c.o.file)
			if err != nil {
				return err
			}
			defer f.Close()
			from = f
		}
		place := operate.StateFolder(c.o.state)
		if c.o.pg != "" {
			pipeline := c.o.pipeline
			in := bufio.NewReaderSize(from, 64<<10)
			if from = in; pipeline == "" {
				if pipeline, err = statefile.PeekPipeline(in); err != nil {
					return err
				}
			}
			if pipeline == "" {
				return errUsage{errors.New("the file is of a state folder and does not name the pipeline: state import -pg needs -pipeline")}
			}
			place = state.PostgresArchive(config, pipeline)
		}
		moved, err := operate.ImportState(c.ctx, from, place)
		if err != nil {
			return err
		}
		return c.moved(moved, "imported")
	}
	return errUsage{fmt.Errorf("state export or state import, not %q", c.args[0])}
}

func (c *call) moved(m operate.StateMoved, what string) error {
	if c.o.json {
		return c.object(map[string]any{"partitions": m.Partitions, "pieces": m.Pieces, "bytes": m.Bytes})
	}
	c.say("%d partitions and %d pieces of state, %d bytes, %s", m.Partitions, m.Pieces, m.Bytes, what)
	return nil
}
