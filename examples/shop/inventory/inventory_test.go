package main

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

var sold = []Item{
	{SKU: "bowl", Name: "Bowl", PriceCents: 1200, Stock: 5},
	{SKU: "cup", Name: "Cup", PriceCents: 800, Stock: 2},
}

func open(t *testing.T, dir string) *Stock {
	t.Helper()
	stock, err := openStock(dir, sold)
	if err != nil {
		t.Fatal(err)
	}
	return stock
}

func level(t *testing.T, stock *Stock, sku string, want int64) {
	t.Helper()
	if item, _ := stock.Item(sku); item.Stock != want {
		t.Fatalf("%s: %d in stock, want %d", sku, item.Stock, want)
	}
}

func TestStockSurvivesARestart(t *testing.T) {
	dir := t.TempDir()
	stock := open(t, dir)
	if err := stock.Reserve("o1", []Line{{"bowl", 2}, {"cup", 1}}); err != nil {
		t.Fatal(err)
	}
	if err := stock.Set("cup", 10); err != nil {
		t.Fatal(err)
	}
	if err := stock.Reserve("o2", []Line{{"cup", 3}}); err != nil {
		t.Fatal(err)
	}
	// Not closed, as after a kill; twice, so that a compacted journal is read too.
	for range [2]int{} {
		stock = open(t, dir)
		level(t, stock, "bowl", 3)
		level(t, stock, "cup", 7)
		if stock.Reservations() != 2 {
			t.Fatalf("%d reservations", stock.Reservations())
		}
	}
	if err := stock.Release("o1"); err != nil {
		t.Fatal(err)
	}
	stock = open(t, dir)
	level(t, stock, "bowl", 5)
	level(t, stock, "cup", 8)
}

func TestALineThatIsNotWholeIsDropped(t *testing.T) {
	dir := t.TempDir()
	stock := open(t, dir)
	if err := stock.Reserve("o1", []Line{{"bowl", 1}}); err != nil {
		t.Fatal(err)
	}
	file, _ := os.OpenFile(filepath.Join(dir, "journal"), os.O_APPEND|os.O_WRONLY, 0)
	_, _ = file.WriteString(`{"reserve":"o2","lines":[{"sku":"bo`)
	_ = file.Close()
	level(t, open(t, dir), "bowl", 4)
	// Damage in the middle is not passed over.
	_ = os.WriteFile(filepath.Join(dir, "journal"), []byte("{}\nnonsense\n{}\n"), 0o644)
	if _, err := openStock(dir, sold); err == nil {
		t.Fatal("a damaged journal was accepted")
	}
}

func TestALongJournalIsWrittenAnew(t *testing.T) {
	dir := t.TempDir()
	stock := open(t, dir)
	stock.changes = longest - 2
	for number := int64(1); number <= 4; number++ {
		if err := stock.Set("bowl", number); err != nil {
			t.Fatal(err)
		}
	}
	text, _ := os.ReadFile(filepath.Join(dir, "journal"))
	if lines := strings.Count(string(text), "\n"); lines != 3 {
		t.Fatalf("%d lines", lines)
	}
	level(t, open(t, dir), "bowl", 4)
}

func TestAnOrderGetsAllOrNothing(t *testing.T) {
	stock := open(t, t.TempDir())
	for _, c := range []struct {
		lines []Line
		want  error
	}{
		{[]Line{{"bowl", 1}, {"cup", 3}}, errSoldOut},
		{[]Line{{"cup", 1}, {"cup", 2}}, errSoldOut},
		{[]Line{{"bowl", 1}, {"gone", 1}}, errUnknown},
		{[]Line{{"bowl", 0}}, errBadQuantity},
		{[]Line{{"bowl", -1}}, errBadQuantity},
		{nil, errBadQuantity},
	} {
		if err := stock.Reserve("o", c.lines); !errors.Is(err, c.want) {
			t.Errorf("%v: %v, want %v", c.lines, err, c.want)
		}
		level(t, stock, "bowl", 5)
		level(t, stock, "cup", 2)
	}
}

func TestAReservationAskedForTwiceIsOne(t *testing.T) {
	stock := open(t, t.TempDir())
	for range [2]int{} {
		if err := stock.Reserve("o", []Line{{"bowl", 2}}); err != nil {
			t.Fatal(err)
		}
	}
	level(t, stock, "bowl", 3)
	if err := stock.Reserve("o", []Line{{"bowl", 1}}); !errors.Is(err, errOtherOrder) {
		t.Fatal(err)
	}
}

func TestTheLastPieceIsSoldOnce(t *testing.T) {
	stock := open(t, t.TempDir())
	var wait sync.WaitGroup
	results := make(chan error, 20)
	for number := 0; number < 20; number++ {
		order := string(rune('a' + number))
		wait.Add(1)
		go func() {
			defer wait.Done()
			results <- stock.Reserve(order, []Line{{"bowl", 1}})
		}()
	}
	wait.Wait()
	close(results)
	accepted := 0
	for err := range results {
		if err == nil {
			accepted++
		}
	}
	if accepted != 5 {
		t.Fatalf("%d accepted", accepted)
	}
	level(t, stock, "bowl", 0)
}

func TestRequests(t *testing.T) {
	handler := newHandler(open(t, t.TempDir()), "secret")
	for _, c := range []struct {
		method, path, token, body string
		status                    int
		contains                  string
	}{
		{"GET", "/items", "", "", 200, `"sku":"bowl"`},
		{"GET", "/items/cup", "", "", 200, `"stock":2`},
		{"GET", "/items/gone", "", "", 404, "no such item"},
		{"POST", "/items", "", "", 405, "method"},
		{"POST", "/reservations", "", `{"order":"o","lines":[{"sku":"cup","quantity":1}]}`, 401, "token"},
		{"POST", "/reservations", "wrong", `{}`, 401, "token"},
		{"POST", "/reservations", "secret", `{`, 400, "body"},
		{"POST", "/reservations", "secret", `{"lines":[]}`, 400, "name"},
		{"POST", "/reservations", "secret", `{"order":"o","lines":[{"sku":"cup","quantity":1}]}`, 201, `"order":"o"`},
		{"POST", "/reservations", "secret", `{"order":"p","lines":[{"sku":"cup","quantity":2}]}`, 409, "1 left"},
		{"DELETE", "/reservations/o", "secret", "", 204, ""},
		{"DELETE", "/reservations/o", "secret", "", 204, ""},
		{"PUT", "/items/cup", "secret", `{"stock":9}`, 200, `"stock":9`},
		{"PUT", "/items/cup", "secret", `{}`, 400, "missing"},
		{"PUT", "/items/cup", "secret", `{"stock":-1}`, 400, "quantities"},
		{"GET", "/healthz", "", "", 200, "ok"},
		{"GET", "/metrics", "", "", 200, `shop_inventory_reservations_total{outcome="accepted"} 1`},
		{"GET", "/metrics", "", "", 200, `http_requests_total{handler="/items/",method="GET",code="404"} 1`},
		{"GET", "/metrics", "", "", 200, `shop_inventory_stock{sku="cup"} 9`},
	} {
		request := httptest.NewRequest(c.method, c.path, strings.NewReader(c.body))
		if c.token != "" {
			request.Header.Set("Authorization", "Bearer "+c.token)
		}
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, request)
		if answer.Code != c.status || !strings.Contains(answer.Body.String(), c.contains) {
			t.Errorf("%s %s %s: %d %s", c.method, c.path, c.body, answer.Code, answer.Body)
		}
	}
	unset := newHandler(open(t, t.TempDir()), "")
	answer := httptest.NewRecorder()
	unset.ServeHTTP(answer, httptest.NewRequest("DELETE", "/reservations/o", nil))
	if answer.Code != http.StatusUnauthorized {
		t.Errorf("without a token anybody may change stock: %d", answer.Code)
	}
}
