package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"
)

// A table is a heading and rows of as many cells.
type table [][]string

// print writes a table, in markdown or in columns.
func (t table) print(w io.Writer, markdown bool) error {
	if !markdown {
		columns := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
		for _, row := range t {
			fmt.Fprintln(columns, strings.Join(row, "\t"))
		}
		fmt.Fprintln(columns)
		return columns.Flush()
	}
	for i, row := range t {
		fmt.Fprintf(w, "| %s |\n", strings.Join(row, " | "))
		if i == 0 {
			for _, cell := range row {
				fmt.Fprint(w, "|", strings.Repeat("-", utf8.RuneCountInString(cell)+2))
			}
			fmt.Fprintln(w, "|")
		}
	}
	_, err := fmt.Fprintln(w)
	return err
}

// An outcome is what all rounds of an operation gave, by target: as many results each as there were rounds, or an error.
type outcome struct {
	operation
	results map[string][]result
	failed  map[string]error
}

// value returns the median of something over the rounds.
func value[T int64 | float64 | time.Duration](results []result, of func(result) T) T {
	list := make([]T, len(results))
	for i, r := range results {
		list[i] = of(r)
	}
	return median(list)
}

// ratio returns the median over the rounds, the least and the greatest of the rate of Berth in units of that of another
// target in the same round.
func (o outcome) ratio(of string) (mid, least, most float64, ok bool) {
	ours, theirs := o.results[berth], o.results[of]
	if len(ours) == 0 || len(ours) != len(theirs) {
		return 0, 0, 0, false
	}
	list := make([]float64, len(ours))
	for i := range ours {
		list[i] = ours[i].rate / theirs[i].rate
	}
	return median(list), slices.Min(list), slices.Max(list), true
}

func (o outcome) ratioCell(of string) string {
	mid, least, most, ok := o.ratio(of)
	if !ok {
		return "–"
	}
	return fmt.Sprintf("%.2f (%.2f–%.2f)", mid, least, most)
}

// verdict compares a ratio with the bar, and the memory with that of the same target.
func (o outcome) verdict() string {
	if o.bar == 0 {
		return "–"
	}
	bar := fmt.Sprintf("≥ %g × %s", o.bar, o.against)
	mid, _, _, ok := o.ratio(o.against)
	if !ok {
		return bar
	}
	bar += held(mid >= o.bar)
	if o.memory == 0 {
		return bar
	}
	peak := func(r result) int64 { return r.rss }
	ratio := float64(value(o.results[berth], peak)) / float64(value(o.results[o.against], peak))
	return fmt.Sprintf("%s; memory %.2f < %g%s", bar, ratio, o.memory, held(ratio < o.memory))
}

func held(ok bool) string {
	if ok {
		return ": yes"
	}
	return ": **no**"
}

// names are those of all targets, in the order of columns.
func names() []string { return []string{berth, anonymous, floor, peer} }

func inSection(outcomes []outcome, section string) []outcome {
	var of []outcome
	for _, o := range outcomes {
		if o.section == section {
			of = append(of, o)
		}
	}
	return of
}

// present are the names of the targets that were to do any of the operations.
func present(outcomes []outcome) []string {
	var of []string
	for _, name := range names() {
		if slices.ContainsFunc(outcomes, func(o outcome) bool { return len(o.results[name]) > 0 || o.failed[name] != nil }) {
			of = append(of, name)
		}
	}
	return of
}

// ratios has a row for each operation, with columns for the targets that were to do any.
func ratios(outcomes []outcome) table {
	targets := present(outcomes)
	heading, compared := []string{"operation", "clients"}, []string{}
	for _, name := range targets {
		heading = append(heading, label(name)+"/s")
		if name != berth {
			compared = append(compared, "berth/"+label(name))
		}
	}
	t := table{append(append(heading, compared...), "bar")}
	for _, o := range outcomes {
		row, compared := []string{o.name, fmt.Sprint(o.clients)}, []string{}
		for _, name := range targets {
			row = append(row, o.rateCell(name))
			if name != berth {
				compared = append(compared, o.ratioCell(name))
			}
		}
		t = append(t, append(append(row, compared...), o.verdict()))
	}
	return t
}

func label(name string) string {
	if name == peer {
		return "peer"
	}
	return name
}

func (o outcome) rateCell(name string) string {
	switch results := o.results[name]; {
	case o.failed[name] != nil:
		return "failed"
	case len(results) > 0:
		return number(value(results, func(r result) float64 { return r.rate }))
	}
	return "–"
}

func details(outcomes []outcome) table {
	t := table{{"operation", "target", "rate/s", "p50", "p99", "server CPU/op", "RSS peak"}}
	for _, o := range outcomes {
		for _, name := range names() {
			results := o.results[name]
			if len(results) == 0 {
				continue
			}
			t = append(t, []string{
				o.name, name,
				number(value(results, func(r result) float64 { return r.rate })),
				short(value(results, func(r result) time.Duration { return r.p50 })),
				short(value(results, func(r result) time.Duration { return r.p99 })),
				short(value(results, func(r result) time.Duration { return r.cpu })),
				fmt.Sprintf("%.0f MB", float64(value(results, func(r result) int64 { return r.rss }))/1e6),
			})
		}
	}
	return t
}

// number prints three digits at least.
func number(v float64) string {
	switch {
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

func short(d time.Duration) string {
	switch {
	case d >= 100*time.Millisecond:
		return fmt.Sprintf("%.0f ms", d.Seconds()*1e3)
	case d >= time.Millisecond:
		return fmt.Sprintf("%.1f ms", d.Seconds()*1e3)
	}
	return fmt.Sprintf("%.0f µs", d.Seconds()*1e6)
}

// figureTable has one row for each figure and one column for each target that has it.
func figureTable(figures map[string][]figure) table {
	t := table{{"figure", berth, floor, peer, "bar"}}
	names := []string{berth, floor, peer}
	rows := map[string]int{}
	for column, name := range names {
		for _, f := range figures[name] {
			row, ok := rows[f.name]
			if !ok {
				row = len(t)
				rows[f.name] = row
				t = append(t, []string{f.name, "–", "–", "–", "–"})
			}
			t[row][column+1] = strings.TrimSpace(number(f.value) + " " + f.unit)
			if name == berth && f.bar > 0 {
				verdict := "yes"
				if f.value > f.bar {
					verdict = "**no**"
				}
				t[row][4] = strings.TrimSpace(fmt.Sprintf("≤ %g %s", f.bar, f.unit)) + ": " + verdict
			}
		}
	}
	return t
}
