package metrics_test

import (
	"bufio"
	"context"
	"fmt"
	"net/http/httptest"
	"os"
	"strings"

	"github.com/leatgo/leat"
	"github.com/leatgo/leat/leattest"
	"github.com/leatgo/leat/metrics"
	"github.com/leatgo/leat/stage"
)

func ExampleNew() {
	dir, err := os.MkdirTemp("", "leat")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)

	m := metrics.New(metrics.Config{})
	p := leat.New("numbers", leat.Config{StateDir: dir, Observe: m.Observe})
	even := leat.Via(leat.From(p, leattest.Rows(1, 2, 3, 4, 5)), "even", stage.Filter(func(n int) bool { return n%2 == 0 }))
	leat.To(even, leattest.Collect[int]())
	m.Watch(p)

	pages := httptest.NewServer(m.Handler()) // a program: http.ListenAndServe(addr, m.Handler())
	defer pages.Close()
	if err := p.Run(context.Background()); err != nil {
		fmt.Println(err)
		return
	}

	answer, err := pages.Client().Get(pages.URL + "/metrics")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer answer.Body.Close()
	for lines := bufio.NewScanner(answer.Body); lines.Scan(); {
		if strings.HasPrefix(lines.Text(), "leat_rows_total") && strings.Contains(lines.Text(), `node="even"`) {
			fmt.Println(lines.Text())
		}
	}
	// Output:
	// leat_rows_total{kind="stage",node="even",outcome="added",pipeline="numbers"} 0
	// leat_rows_total{kind="stage",node="even",outcome="filtered",pipeline="numbers"} 3
	// leat_rows_total{kind="stage",node="even",outcome="in",pipeline="numbers"} 5
	// leat_rows_total{kind="stage",node="even",outcome="out",pipeline="numbers"} 2
	// leat_rows_total{kind="stage",node="even",outcome="rejected",pipeline="numbers"} 0
}
