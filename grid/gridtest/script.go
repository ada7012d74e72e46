package gridtest

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/talka-grid/talka/workunits"
	"github.com/talka-grid/talka/workunits/ledger"
	"github.com/talka-grid/talka/workunits/verdict"
)

// Script runs commands, one a line, on a world:
//
//	nodes publisher=p stewards=p,s1 volunteers=v1,v2 [arm64=v2] [slots=2] [plain=v2]
//	ways NODE [slow=3] [hang] [void] [garbage] [lies=0.5] [units=1,2] [collude] [plain] [forks] [copycat] [late]
//		[asks=s1] (no other steward for work) [crook=omits|withholds|draws|favours|heads|forks|compares|lazy]
//	job units=4 shard=2 [time=1s] [wall=10s] [verify=none] [copies=3] [audit=0.2] [error=1e-3] [chain=8] [trusted=v1] [large] [transfer=4s] [split] [canonical] [noisy] [program] (which compares noisy results) [reduce]
//	run until=done|sealed|rested|down|accepted:N|committed:N [limit=60s], or run for=5s
//	crash NODE [on="statement kind"] [sent]
//	restart NODE [forget=SEGMENTS] [moved]
//	wipe NODE (it crashes, and its disk is lost)
//	willing NODES (to be stewards)
//	clock NODE by=90s (its clock jumps; back only before the job)
//	survives (the deaths since: what any steward accepted is on the disks that are left)
//	partition p,v1 | s1,v2, or heal
//	cancel REASON
//	collect (the publisher says that it has the results)
//	retry (the publisher has the units that have failed tried again)
//	audit units=N (the publisher executes so many accepted ones itself)
//	check
//	right (no result is wrong, though volunteers collude)
//	lied least=N (so many copies came to a wrong result)
//	burned NODES
//	blamed NODE fault=NAME by=NODES (each of which states it, and acts without the node)
//	stake NODE most=N
//	table
type Script struct {
	World      *World
	Standing   workunits.StakeTable // that jobs start from
	stewards   []*Node
	volunteers []*Node
}

// Do runs one command.
func (s *Script) Do(line string) error {
	name, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
	do, ok := map[string]func(args) error{
		"nodes": s.nodes, "ways": s.ways, "job": s.job, "run": s.run, "crash": s.crash, "restart": s.restart,
		"wipe": s.wipe, "willing": s.willing, "clock": s.clock, "survives": s.survives, "right": s.right, "stake": s.stake, "lied": s.lied, "burned": s.burned, "blamed": s.blamed, "partition": s.partition, "heal": s.heal, "cancel": s.cancel, "collect": s.collect, "retry": s.retry, "audit": s.audit, "check": s.check, "table": s.table,
	}[name]
	if !ok {
		return fmt.Errorf("unknown command %q", name)
	}
	a := args{text: rest, named: map[string]string{}}
	for _, word := range strings.Fields(rest) {
		k, v, ok := strings.Cut(word, "=")
		a.named[k] = v
		if !ok {
			a.words = append(a.words, word)
		}
	}
	if err := do(a); err != nil {
		return fmt.Errorf("%s: %w", line, err)
	}
	return s.World.Err()
}

type args struct {
	text  string
	words []string
	named map[string]string
}

func (a args) has(k string) bool { _, ok := a.named[k]; return ok }

func (a args) number(k string, otherwise uint64) (uint64, error) {
	if !a.has(k) {
		return otherwise, nil
	}
	return strconv.ParseUint(a.named[k], 10, 32)
}

func (a args) millis(k string, otherwise uint64) (uint64, error) {
	if !a.has(k) {
		return otherwise, nil
	}
	d, err := time.ParseDuration(a.named[k])
	return uint64(d.Milliseconds()), err
}

func (s *Script) list(names string) (list []*Node, err error) {
	for _, name := range strings.FieldsFunc(names, func(r rune) bool { return r == ',' || r == ' ' }) {
		n := s.World.Node(name)
		if n == nil {
			return nil, fmt.Errorf("no node %q", name)
		}
		list = append(list, n)
	}
	return list, nil
}

// one is the node that a command is about, its first word.
func (s *Script) one(a args) (*Node, error) {
	if len(a.words) == 0 {
		return nil, errors.New("which node?")
	}
	list, err := s.list(a.words[0])
	if err != nil {
		return nil, err
	}
	return list[0], nil
}

func (s *Script) nodes(a args) (err error) {
	for _, role := range []string{"publisher", "stewards", "volunteers"} {
		for _, name := range strings.FieldsFunc(a.named[role], func(r rune) bool { return r == ',' }) {
			if s.World.Node(name) == nil {
				s.World.Add(name)
			}
		}
	}
	slots, err := a.number("slots", 1)
	if err != nil {
		return err
	}
	for _, n := range s.World.nodes {
		n.Slots = int(slots)
	}
	arm, err := s.list(a.named["arm64"])
	if err != nil {
		return err
	}
	for _, n := range arm {
		n.Arch = "arm64"
	}
	if s.stewards, err = s.list(a.named["stewards"]); err != nil {
		return err
	}
	s.volunteers, err = s.list(a.named["volunteers"])
	return err
}

func (s *Script) ways(a args) error {
	n, err := s.one(a)
	if err != nil {
		return err
	}
	n.Ways = Ways{Hang: a.has("hang"), Void: a.has("void"), Garbage: a.has("garbage"), Collude: a.has("collude"), Plain: a.has("plain"), Forks: a.has("forks"),
		Crook: a.named["crook"], Copycat: a.has("copycat"), Late: a.has("late")}
	if only, ok := a.named["asks"]; ok {
		list, err := s.list(only)
		if err != nil {
			return err
		}
		for _, o := range list {
			n.asks = append(n.asks, o.ID)
		}
	}
	for _, f := range []struct {
		name string
		to   *float64
	}{{"slow", &n.Ways.Slow}, {"lies", &n.Ways.Lies}} {
		if a.has(f.name) {
			if *f.to, err = strconv.ParseFloat(a.named[f.name], 64); err != nil {
				return err
			}
		}
	}
	for _, u := range strings.FieldsFunc(a.named["units"], func(r rune) bool { return r == ',' }) {
		unit, err := strconv.ParseUint(u, 10, 32)
		if err != nil {
			return err
		}
		n.Ways.Units = append(n.Ways.Units, uint32(unit))
	}
	return nil
}

func (s *Script) job(a args) error {
	units, err1 := a.number("units", 4)
	shard, err2 := a.number("shard", 2)
	took, err3 := a.millis("time", 1000)
	wall, err4 := a.millis("wall", 10_000)
	copies, err5 := a.number("copies", 0)
	trusted, err6 := s.list(a.named["trusted"])
	nominal, err7 := a.millis("nominal", 0)
	chain, err9 := a.number("chain", 0)
	audit, err8 := strconv.ParseFloat(cmp.Or(a.named["audit"], "0"), 64)
	transfer, err11 := a.millis("transfer", largeTime)
	wrong, err10 := strconv.ParseFloat(cmp.Or(a.named["error"], "1e-3"), 64)
	if err := errors.Join(err1, err2, err3, err4, err5, err6, err7, err8, err9, err10, err11); err != nil {
		return err
	}
	j := &Job{Manifest: manifest(uint32(units), uint32(shard)), Publisher: s.World.nodes[0], Time: took, Chain: uint32(chain),
		Large: a.has("large"), Transfer: transfer, Split: a.has("split"), Noisy: a.has("noisy")}
	j.Manifest.Limits.Wall, j.Manifest.Canonical = wall, a.has("canonical")
	if j.Noisy {
		j.Manifest.Policy.Compare = workunits.Comparator{Kind: workunits.CompareNumbers, Rel: 1e-6}
	}
	if a.has("program") {
		j.Manifest.Policy.Compare = workunits.Comparator{Kind: workunits.CompareProgram, Program: &j.Manifest.Program}
	}
	if a.has("reduce") {
		j.Manifest.Reduce = &workunits.Stage{Program: j.Manifest.Program}
	}
	j.Manifest.Policy.MinCopies = uint32(copies)
	j.Manifest.Nominal, j.Manifest.Policy.Audit, j.Manifest.Policy.Error = nominal, audit, wrong
	if len(s.Standing.Stakes) > 0 {
		_, digest := s.Standing.Encode()
		j.Standing, j.Manifest.Standing = s.Standing, &workunits.Link{Cid: workunits.RecordCid(digest)}
	}
	if v, ok := a.named["verify"]; ok {
		j.Manifest.Policy.Mode = workunits.VerifyMode(v)
	}
	for _, n := range trusted {
		j.Manifest.Policy.Trusted = append(j.Manifest.Policy.Trusted, n.ID)
	}
	return s.World.Publish(j, s.stewards, s.volunteers)
}

func (s *Script) run(a args) error {
	w := s.World
	if a.has("for") {
		d, err := a.millis("for", 0)
		w.Run(func() bool { return false }, d)
		return err
	}
	limit, err := a.millis("limit", 60_000)
	if err != nil {
		return err
	}
	what, number, _ := strings.Cut(a.named["until"], ":")
	n, _ := strconv.Atoi(number)
	until, ok := map[string]func() bool{
		"done": w.Done, "sealed": w.Sealed, "rested": w.Rested, "accepted": func() bool { return w.Accepted() >= n },
		"committed": func() bool { return w.obs.kinds[workunits.KindCommit] >= n },
		"down":      func() bool { return slices.ContainsFunc(w.nodes, func(n *Node) bool { return !n.up }) },
	}[what]
	if !ok {
		return fmt.Errorf("until what? %q", what)
	}
	if !w.Run(until, limit) && w.err == nil {
		return fmt.Errorf("not within %d ms", limit)
	}
	return nil
}

func (s *Script) crash(a args) error {
	n, err := s.one(a)
	if err != nil {
		return err
	}
	if kind, ok := a.named["on"]; ok {
		n.CrashOn(strings.ReplaceAll(kind, "-", " "), a.has("sent"))
		return nil
	}
	n.Crash()
	return nil
}

func (s *Script) restart(a args) error {
	n, err1 := s.one(a)
	forget, err2 := a.number("forget", 0)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if forget > 0 {
		n.Forget(int(forget))
	}
	if a.has("moved") {
		n.Move()
	}
	n.Restart()
	return nil
}

func (s *Script) wipe(a args) error {
	list, err := s.list(strings.Join(a.words, ","))
	for _, n := range list {
		n.Wipe()
	}
	return err
}

func (s *Script) clock(a args) error {
	n, err1 := s.one(a)
	by, err2 := time.ParseDuration(a.named["by"])
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if by < 0 && s.World.job != nil {
		return errors.New("clocks of nodes that run do not go back")
	}
	n.SetClock(by.Milliseconds())
	return nil
}

func (s *Script) willing(a args) error {
	for _, name := range strings.FieldsFunc(a.text, func(r rune) bool { return r == ',' }) {
		if s.World.Node(name) == nil {
			s.World.Add(name)
		}
		s.World.Node(name).yes = true
	}
	return nil
}

func (s *Script) survives(args) error { return s.World.Survives() }

func (s *Script) partition(a args) error {
	var sides [][]*Node
	for part := range strings.SplitSeq(a.text, "|") {
		side, err := s.list(part)
		if err != nil {
			return err
		}
		sides = append(sides, side)
	}
	s.World.printf("partition: %s", a.text)
	s.World.Partition(sides...)
	return nil
}

func (s *Script) heal(args) error {
	s.World.printf("the partition heals")
	s.World.Partition()
	return nil
}

func (s *Script) cancel(a args) error {
	s.World.job.Publisher.Cancel(a.text)
	return nil
}

func (s *Script) collect(args) error {
	s.World.job.Publisher.Collect()
	return nil
}

func (s *Script) retry(args) error {
	s.World.job.Publisher.Retry()
	return nil
}

func (s *Script) audit(a args) error {
	n, err := a.number("units", 1)
	if err != nil {
		return err
	}
	s.World.job.Publisher.Audit(int(n))
	return nil
}

func (s *Script) check(args) error {
	w := s.World
	if !w.Run(w.Rested, 60_000) && w.err == nil {
		return errors.New("the stewards' ledgers stay different")
	}
	return w.Check()
}

// verdicts are those over everything that was said.
func (s *Script) verdicts() *verdict.Book {
	w := s.World
	l := w.Union()
	return verdict.ReadWith(w.job.ID, w.job.Manifest, w.job.Standing, l, l.Heads())
}

func (s *Script) right(args) error {
	w, b := s.World, s.verdicts()
	for u, d := range w.obs.accepted {
		if !w.job.right(b, u, d) {
			return fmt.Errorf("unit %d is accepted with a wrong result", u)
		}
	}
	return nil
}

func (s *Script) stake(a args) error {
	n, err1 := s.one(a)
	most, err2 := a.number("most", 0)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	if got := s.verdicts().Stake(n.ID); got > int(most) {
		return fmt.Errorf("%s has stake %d", n.Name, got)
	}
	return nil
}

func (s *Script) lied(a args) error {
	least, err := a.number("least", 1)
	if got := s.World.obs.lies; err == nil && got < int(least) {
		return fmt.Errorf("only %d copies are wrong", got)
	}
	return err
}

func (s *Script) burned(a args) error {
	list, err := s.list(a.text)
	b := s.verdicts()
	for _, n := range list {
		if !b.Burned(n.ID) {
			return fmt.Errorf("%s is not burned", n.Name)
		}
	}
	return err
}

func (s *Script) blamed(a args) error {
	n, err1 := s.one(a)
	by, err2 := s.list(a.named["by"])
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	for _, o := range by {
		said := false
		o.ledger.Walk(o.ledger.Heads(), func(e ledger.Entry) {
			f, ok := e.Body.(workunits.Fault)
			said = said || ok && e.Author == o.ID && f.Against == n.ID && string(f.Name) == a.named["fault"]
		})
		if !said {
			return fmt.Errorf("%s does not state it", o.Name)
		}
		if slices.Contains(o.steward.Active(), n.ID) {
			return fmt.Errorf("%s still acts with %s", o.Name, n.Name)
		}
	}
	return nil
}

func (s *Script) table(args) error {
	s.World.Table(s.World.log)
	return nil
}
