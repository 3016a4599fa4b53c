package folder

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Config says which files there are and what becomes of them.
type Config struct {
	// Dir and Globs, or Files. Globs are matched against the path relative to Dir,
	// with slashes: path.Match for each element, and ** for any number of them.
	Dir   string
	Globs []string
	Files []string

	// Move moves finished files to ProcessedDir or FailedDir.
	Move                    bool
	ProcessedDir, FailedDir string

	// ReadDuplicates reads a file whose content was read before under another name
	// (rule D2). Otherwise it is skipped.
	ReadDuplicates bool

	// StateDir is the source's own state folder; it need not exist.
	StateDir string

	// Inspect looks into a file before it is entered; err means that it could not. f
	// must not be kept; size is its size.
	Inspect func(ctx context.Context, name string, f *os.File, size int64) (Look, error)

	// Watch is the time between two scans; 0: there is one. MaxScans ends the watching
	// after so many; 0: never. PollOnly leaves out the file system's notifications.
	Watch    time.Duration
	MaxScans int
	PollOnly bool

	// Settle is how long a file must have stood still, as seen by this process,
	// before it is entered (rule D1). 0: what is there is complete.
	Settle time.Duration

	// Attempts is after how many failed readings a file is given up; 0: never.
	Attempts int

	// OnFinal, if set, hears of each entry whose final status has become durable, and
	// of each refusal, with the reason as logs may show it ("" if a file failed in an
	// earlier life). Calls come one at a time.
	OnFinal func(e Entry, reason string)

	Logger *slog.Logger
}

// Look is what a format sees in a file before it is entered.
type Look struct {
	Extent int64    // how wide its range of offsets is, also with a Fault
	Fault  error    // what makes it unfit to be read at all
	Schema []string // its columns as it names them, in its order; nil: it names none
}

// Faults are the mistakes in the fields that users set, for Validate. It does no I/O.
func (c *Config) Faults() []error {
	var faults []error
	fault := func(format string, args ...any) { faults = append(faults, fmt.Errorf(format, args...)) }
	switch {
	case c.Dir == "" && len(c.Files) == 0:
		fault("neither Dir nor Files is set")
	case c.Dir != "" && len(c.Files) > 0:
		fault("both Dir and Files are set: the files are those of a folder or a list, not both")
	}
	for _, g := range c.Globs {
		if err := checkGlob(g); err != nil {
			fault("Glob %q: %w", g, err)
		}
	}
	names := fileNames(c.Files)
	for i, name := range names {
		if c.Files[i] == "" {
			fault("Files[%d] is empty", i)
		} else if slices.Contains(names[:i], name) {
			fault("Files lists %q twice", name)
		}
	}
	if c.Watch < 0 {
		fault("Watch %v is negative; 0 is one pass", c.Watch)
	}
	if c.Watch > 0 && len(c.Files) > 0 && c.Dir == "" {
		fault("Watch needs Dir: a list of Files is read once")
	}
	if c.MaxScans < 0 {
		fault("MaxScans %d is negative; 0 is no limit", c.MaxScans)
	}
	if c.Watch == 0 && c.MaxScans > 0 {
		fault("MaxScans has an effect with Watch only")
	}
	if c.Watch == 0 && c.PollOnly {
		fault("PollOnly has an effect with Watch only")
	}
	if !c.Move {
		return faults
	}
	if c.Dir == "" && (c.ProcessedDir == "" || c.FailedDir == "") {
		fault("to move Files, set ProcessedDir and FailedDir: there is no folder to put them beside")
	}
	if c.Dir != "" {
		for field, dir := range map[string]string{"ProcessedDir": c.ProcessedDir, "FailedDir": c.FailedDir} {
			if dir != "" && filepath.Clean(dir) == filepath.Clean(c.Dir) {
				fault("%s is Dir itself: the files would be found again", field)
			}
		}
	}
	return faults
}

// moveDir is where files go that were moved to ToProcessed or ToFailed. The
// default is beside Dir.
func (c *Config) moveDir(to Place) string {
	dir := c.ProcessedDir
	if to == ToFailed {
		dir = c.FailedDir
	}
	if dir == "" && c.Dir != "" {
		abs, err := filepath.Abs(c.Dir)
		if err != nil {
			abs = c.Dir
		}
		dir = filepath.Join(filepath.Dir(abs), to.String())
	}
	return dir
}

func fileNames(files []string) []string {
	names := make([]string, len(files))
	for i, f := range files {
		names[i] = filepath.ToSlash(filepath.Clean(f))
	}
	return names
}

func checkGlob(g string) error {
	if g == "" || strings.HasPrefix(g, "/") {
		return errors.New("a glob is relative to Dir and not empty")
	}
	for _, el := range strings.Split(g, "/") {
		if el == ".." || el == "." || el == "" {
			return fmt.Errorf("the element %q: a glob can't leave Dir", el)
		}
		if _, err := path.Match(el, "x"); err != nil {
			return err
		}
	}
	return nil
}

// matches tells whether a relative path matches. A name that begins with a dot is
// hidden, as in a shell: only a pattern that begins with a dot finds it, so files
// that are still being written as .name.tmp are left alone.
func matches(pattern, name []string) bool {
	if len(pattern) == 0 {
		return len(name) == 0
	}
	if pattern[0] == "**" {
		if matches(pattern[1:], name) {
			return true
		}
		return len(name) > 0 && !strings.HasPrefix(name[0], ".") && matches(pattern, name[1:])
	}
	if len(name) == 0 || strings.HasPrefix(name[0], ".") && !strings.HasPrefix(pattern[0], ".") {
		return false
	}
	ok, _ := path.Match(pattern[0], name[0])
	return ok && matches(pattern[1:], name[1:])
}
