package filesource

import (
	"fmt"
	"path/filepath"
	"time"

	"github.com/leatgo/leat/internal/folder"
	"github.com/leatgo/leat/source/files"
)

// Config holds the fields that the Configs of all sources of files have; package
// csvsource says what they mean.
type Config struct {
	Package string   // such as "csvsource", for errors
	Kind    string   // such as "csv": the name of a source that has Files
	Endings []string // of the names that Glob finds by default, such as ".csv"

	Name         string
	Dir          string
	Glob         string
	Recursive    bool
	Files        []string
	Watch        time.Duration
	Settle       time.Duration
	MaxScans     int
	PollOnly     bool
	Attempts     int
	OnFile       func(files.Event)
	After        files.After
	ProcessedDir string
	FailedDir    string
	Duplicates   files.Duplicates
}

const (
	defaultSettle   = 2 * time.Second
	defaultAttempts = 5
)

func (c *Config) name() string {
	if c.Name != "" {
		return c.Name
	}
	if c.Dir != "" {
		switch base := filepath.Base(c.Dir); base {
		case ".", "..", string(filepath.Separator):
		default:
			return base
		}
	}
	return c.Kind
}

func (c *Config) folder() folder.Config {
	fc := folder.Config{
		Dir: c.Dir, Files: c.Files,
		Move: c.After == files.Move, ProcessedDir: c.ProcessedDir, FailedDir: c.FailedDir,
		ReadDuplicates: c.Duplicates == files.ReadDuplicates,
		Watch:          c.Watch, MaxScans: c.MaxScans, PollOnly: c.PollOnly, Settle: c.Settle, Attempts: c.Attempts,
	}
	switch {
	case c.Glob != "":
		fc.Globs = []string{c.Glob}
	default:
		for _, end := range c.Endings {
			if c.Recursive {
				fc.Globs = append(fc.Globs, "**/*"+end)
			} else {
				fc.Globs = append(fc.Globs, "*"+end)
			}
		}
	}
	switch {
	case c.Settle == 0 && c.Watch > 0:
		fc.Settle = defaultSettle
	case c.Settle < 0:
		fc.Settle = 0
	}
	switch {
	case c.Attempts == 0:
		fc.Attempts = defaultAttempts
	case c.Attempts < 0:
		fc.Attempts = 0
	}
	return fc
}

// faults are the mistakes in these fields.
func (c *Config) faults() []error {
	fc := c.folder()
	faults := fc.Faults()
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	if c.Glob != "" && len(c.Files) > 0 && c.Dir == "" {
		fault("Glob chooses among the files of Dir; it has no effect on Files")
	}
	if c.Recursive && (c.Glob != "" || c.Dir == "") {
		fault("Recursive changes the default of Glob, for Dir, and nothing else; write **/ into the Glob")
	}
	if c.Settle < -1 {
		fault("Settle %d: it is a time, or -1 for none", c.Settle)
	}
	if c.Attempts < -1 {
		fault("Attempts %d: it is a number, or -1 for no limit", c.Attempts)
	}
	if c.After > files.Move {
		fault("After %d: there are files.Keep and files.Move", c.After)
	}
	if c.Duplicates > files.ReadDuplicates {
		fault("Duplicates %d: there are files.SkipDuplicates and files.ReadDuplicates", c.Duplicates)
	}
	return faults
}
