package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/operate"
	"github.com/leatgo/leat/operate/sqliteholder"
)

func ledger(c *call) error {
	all, err := operate.Ledgers(c.stateDir())
	if err != nil {
		return err
	}
	if c.o.source != "" {
		all = slices.DeleteFunc(all, func(l operate.Ledger) bool { return l.Source != c.o.source })
		if len(all) == 0 {
			return fmt.Errorf("%s has no ledger of a source %q", c.stateDir(), c.o.source)
		}
	}
	if c.o.json {
		out := struct {
			Ledgers []ledgerJSON `json:"ledgers"`
		}{[]ledgerJSON{}}
		for _, l := range all {
			files := []fileJSON{}
			for i := range l.Files {
				files = append(files, fileOf(&l.Files[i]))
			}
			out.Ledgers = append(out.Ledgers, ledgerJSON{l.Source, files})
		}
		return c.object(out)
	}
	for _, l := range all {
		c.say("source %s: %d files", l.Source, len(l.Files))
		var rows [][]any
		for i := range l.Files {
			e := &l.Files[i]
			rows = append(rows, []any{e.Name, e.Status, e.Rows, e.Rejected, e.Size, e.Offset, e.Attempt, stamp(e.Finished), e.MovedTo, e.Drift, e.Error})
		}
		c.table("FILE STATUS ROWS REJECTED BYTES OFFSET ATTEMPT FINISHED MOVED COLUMNS ERROR", rows)
	}
	if len(all) == 0 {
		c.say("no source of files has a ledger in %s", c.stateDir())
	}
	return nil
}

func (c *call) holders() (out []operate.Holder) {
	for _, path := range c.o.sqlite {
		out = append(out, sqliteholder.New(path))
	}
	for _, dir := range c.o.lake {
		out = append(out, operate.Lake(dir))
	}
	return out
}

func positions(c *call) error {
	s, err := operate.ReadState(c.stateDir())
	if err != nil {
		return err
	}
	held := s.Positions
	for _, h := range c.holders() {
		at, err := h.Positions(c.ctx)
		if err != nil {
			return err
		}
		held = append(held, at...)
	}
	if c.o.json {
		out := struct {
			Running    bool       `json:"running"`
			Checkpoint uint64     `json:"checkpoint"`
			Written    string     `json:"written"`
			Positions  []heldJSON `json:"positions"`
			Nodes      []nodeJSON `json:"nodes"`
		}{s.Running, s.Checkpoint, stamp(s.Written), []heldJSON{}, []nodeJSON{}}
		for _, h := range held {
			out.Positions = append(out.Positions, heldOf(h))
		}
		for _, n := range s.Nodes {
			out.Nodes = append(out.Nodes, nodeJSON{n.Name, n.In, n.Out, n.Rejected, n.Filtered, n.Added, n.Reasons})
		}
		return c.object(out)
	}
	if s.Running {
		c.say("a pipeline is running on it: this is a moment old")
	}
	c.say("checkpoint %d, written %s", s.Checkpoint, stamp(s.Written))
	var rows [][]any
	for _, h := range held {
		at, who := "nothing held", h.Holder
		if h.Position.Known() {
			at = strconv.FormatInt(h.Position.Next, 10)
		}
		if h.Sink != "" {
			who += ", " + h.Pipeline + "/" + h.Sink
		}
		rows = append(rows, []any{h.Partition, at, who, h.Position.Log})
	}
	c.table("PARTITION NEXT HELD_BY LOG", rows)
	rows = nil
	for _, n := range s.Nodes {
		rows = append(rows, []any{n.Name, n.In, n.Out, n.Rejected, n.Filtered, n.Added})
	}
	c.table("NODE IN OUT REJECTED FILTERED ADDED", rows)
	return nil
}

var classes = []leat.Class{leat.Decode, leat.Contract, leat.Transform, leat.SinkReject, leat.Late, leat.FutureTime}

func (c *call) filter() operate.Filter {
	return operate.Filter{Class: leat.Class(c.o.class), Node: c.o.node, File: c.o.file, Source: c.o.source, Newest: !c.o.all}
}

// lettersFile is the file that is given, or the one in the state folder that is.
func (c *call) lettersFile() (string, error) {
	if c.o.class != "" && !slices.Contains(classes, leat.Class(c.o.class)) {
		return "", errUsage{fmt.Errorf("-class %s: the classes are %v", c.o.class, classes)}
	}
	info, err := os.Stat(c.stateDir())
	if err != nil {
		return "", err
	}
	if !info.IsDir() {
		return c.stateDir(), nil
	}
	return operate.LettersFile(c.stateDir()), nil
}

func letters(c *call) error {
	if c.o.n < 0 {
		return errUsage{errors.New("-n can't be negative")}
	}
	path, err := c.lettersFile()
	if err != nil {
		return err
	}
	var stats operate.LetterStats
	var newest []leat.DeadLetter
	for l, err := range operate.Letters(path, c.filter()) {
		if err != nil {
			return err
		}
		stats.Count(&l)
		if c.o.n > 0 {
			newest = append(newest, l)
			if len(newest) >= 2*c.o.n { // the memory stays small however many there are
				newest = append([]leat.DeadLetter(nil), newest[len(newest)-c.o.n:]...)
			}
		}
	}
	newest = newest[max(0, len(newest)-c.o.n):]
	if c.o.json {
		return c.object(struct {
			Letters int               `json:"letters"`
			Again   int               `json:"again"`
			ByClass map[string]int    `json:"by_class"`
			ByNode  map[string]int    `json:"by_node"`
			ByRule  map[string]int    `json:"by_rule"`
			ByFile  map[string]int    `json:"by_file"`
			Newest  []leat.DeadLetter `json:"newest"`
		}{stats.Letters, stats.Again, stats.ByClass, stats.ByNode, stats.ByRule, stats.ByFile, newest})
	}
	c.say("%d letters, %d of them refused again after a replay", stats.Letters, stats.Again)
	if stats.Letters == 0 {
		if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
			c.say("there is no %s: either nothing was rejected, or the pipeline keeps its dead letters elsewhere; give that file instead of the state folder", path)
		}
		return nil
	}
	c.table("LETTERS CLASS/COLUMN/RULE", counted(stats.ByRule))
	c.table("LETTERS NODE", counted(stats.ByNode))
	if len(stats.ByFile) > 0 {
		c.table("LETTERS FILE", counted(stats.ByFile))
	}
	if len(newest) == 0 {
		return nil
	}
	var rows [][]any
	for _, l := range newest {
		id := l.ID
		if len(id) > 12 {
			id = id[:12]
		}
		rows = append(rows, []any{id, stamp(l.Time), l.Node, l.Class, place(&l), l.Attempt, l.Error})
	}
	c.table("ID TIME NODE CLASS ORIGIN ATTEMPT ERROR", rows)
	return nil
}

// place is where a letter's record came from.
func place(l *leat.DeadLetter) string {
	switch {
	case l.File != "" && l.Line > 0:
		return fmt.Sprintf("%s:%d", l.File, l.Line)
	case l.File != "":
		return l.File
	case l.FirstPartition != "":
		return fmt.Sprintf("%s@%d", l.FirstPartition, l.FirstOffset)
	}
	return fmt.Sprintf("%s@%d", l.Partition, l.Offset)
}

func letter(c *call) error {
	path, err := c.lettersFile()
	if err != nil {
		return err
	}
	l, err := operate.Letter(path, c.args[1])
	if err != nil {
		return err
	}
	if c.o.json {
		return c.object(l)
	}
	line := func(name string, value any) {
		if text := fmt.Sprint(value); text != "" {
			c.say("%-10s %s", name, printable(text))
		}
	}
	line("id", l.ID)
	line("time", stamp(l.Time))
	line("pipeline", strings.TrimSpace(l.Pipeline+" "+l.Version))
	line("refused by", l.Node)
	line("class", l.Class)
	line("error", l.Error)
	line("column", l.Column)
	line("rule", l.Rule)
	line("attempt", l.Attempt)
	line("origin", place(&l))
	line("source", l.Source)
	line("position", fmt.Sprintf("%s@%d, row %d of the record", l.Partition, l.Offset, l.Ordinal))
	if l.FirstPartition != "" {
		line("first read", fmt.Sprintf("%s@%d", l.FirstPartition, l.FirstOffset))
	}
	for _, step := range l.Path {
		line("way", fmt.Sprintf("%s, row %d of the record", step.Node, step.Ordinal))
	}
	line("topic", l.Topic)
	if l.Key != nil {
		line("key", strconv.QuoteToGraphic(string(l.Key)))
	}
	for _, name := range sortedKeys(l.Headers) {
		line("header", name+"="+strconv.QuoteToGraphic(l.Headers[name]))
	}
	if l.Header != "" {
		line("columns", strconv.QuoteToGraphic(l.Header))
	}
	line("raw", strconv.QuoteToGraphic(string(l.Raw)))
	line("row", string(l.Row))
	if l.Stack != "" {
		c.say("stack\n%s", l.Stack)
	}
	return nil
}

func export(c *call) error {
	if c.o.out == "" {
		return errUsage{errors.New("replay needs -o FILE. Replaying needs the pipeline itself: this command chooses letters, and the program that runs the pipeline sends them with leat.Replay (docs/operations.md)")}
	}
	path, err := c.lettersFile()
	if err != nil {
		return err
	}
	n, err := operate.Export(operate.Letters(path, c.filter()), c.o.out)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("%s is there already: give another name, or remove it", c.o.out)
	}
	if err != nil {
		return err
	}
	if c.o.json {
		return c.object(map[string]any{"letters": n, "file": c.o.out})
	}
	c.say("%d letters written to %s; nothing was replayed yet. Let the pipeline's program do it: leat.Replay(ctx, p, leat.DeadLetters(%q))", n, c.o.out, c.o.out)
	return nil
}

func reprocess(c *call) error {
	if err := operate.Reprocess(c.stateDir(), c.args[1], c.args[2]); err != nil {
		return err
	}
	if c.o.json {
		return c.object(map[string]any{"source": c.args[1], "file": c.args[2], "reprocess": true})
	}
	c.say("the next run of the pipeline reads %s again; a sink without a key then holds its rows twice", printable(c.args[2]))
	return nil
}

func reset(c *call) error {
	r := operate.ResetConfig{StateDir: c.stateDir(), Partition: c.o.partition, Pipeline: c.o.pipeline, Holders: c.holders()}
	switch at, err := strconv.ParseInt(c.o.to, 10, 64); {
	case c.o.partition == "":
		return errUsage{errors.New("reset needs -partition; \"leat positions\" lists them")}
	case c.o.to == "forget":
		r.Forget = true
	case err != nil || at < 0:
		return errUsage{errors.New("reset needs -to OFFSET (from 0 on) or -to forget")}
	default:
		r.To = at
	}
	do := operate.PlanReset
	if c.o.yes {
		do = operate.Reset
	}
	plan, err := do(c.ctx, r)
	if err != nil {
		return err
	}
	if c.o.json {
		out := struct {
			Partition string       `json:"partition"`
			Done      bool         `json:"done"`
			Changes   []changeJSON `json:"changes"`
			Effects   []string     `json:"effects"`
		}{plan.Partition, c.o.yes, []changeJSON{}, plan.Effects}
		for _, ch := range plan.Changes {
			out.Changes = append(out.Changes, changeJSON{heldOf(ch.Held), next(ch.To)})
		}
		return c.object(out)
	}
	c.say("partition %s:", printable(plan.Partition))
	for _, ch := range plan.Changes {
		c.say("  %s", printable(ch.String()))
	}
	for _, e := range plan.Effects {
		c.say("* %s", printable(e))
	}
	switch {
	case c.o.yes:
		c.say("done")
	case len(plan.Changes) > 0:
		c.say("nothing was changed: add -yes to do it")
	}
	return nil
}
