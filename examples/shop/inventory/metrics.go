package main

import (
	"errors"
	"fmt"
	"net/http"
	"runtime"
	"sort"
	"strings"
	"sync"
	"time"
)

// bounds of the histogram of request durations, in seconds.
var bounds = []float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1}

// metrics counts, and shows it in Prometheus' text format.
type metrics struct {
	mu           sync.Mutex
	stock        *Stock
	began        time.Time
	requests     map[string]uint64
	durations    map[string]*histogram
	reservations map[string]uint64
}

type histogram struct {
	buckets []uint64
	sum     float64
	count   uint64
}

func newMetrics(stock *Stock) *metrics {
	return &metrics{
		stock:        stock,
		began:        time.Now(),
		requests:     map[string]uint64{},
		durations:    map[string]*histogram{},
		reservations: map[string]uint64{"accepted": 0, "refused": 0, "failed": 0},
	}
}

func (m *metrics) observe(handler, method string, status int, took time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch method {
	case http.MethodGet, http.MethodPut, http.MethodPost, http.MethodDelete:
	default:
		// Anybody can make up methods; series cannot.
		method = "other"
	}
	m.requests[fmt.Sprintf(`handler=%q,method=%q,code="%d"`, handler, method, status)]++
	h := m.durations[handler]
	if h == nil {
		h = &histogram{buckets: make([]uint64, len(bounds))}
		m.durations[handler] = h
	}
	seconds := took.Seconds()
	for at, bound := range bounds {
		if seconds <= bound {
			h.buckets[at]++
		}
	}
	h.sum += seconds
	h.count++
}

func (m *metrics) reserved(err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case err == nil:
		m.reservations["accepted"]++
	case errors.Is(err, errSoldOut), errors.Is(err, errUnknown), errors.Is(err, errBadQuantity), errors.Is(err, errOtherOrder):
		m.reservations["refused"]++
	default:
		m.reservations["failed"]++
	}
}

func (m *metrics) serve(w http.ResponseWriter, r *http.Request) {
	items, held := m.stock.Items(), m.stock.Reservations()
	m.mu.Lock()
	defer m.mu.Unlock()
	var text strings.Builder
	family := func(name, kind, help string) {
		fmt.Fprintf(&text, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, kind)
	}
	family("shop_inventory_stock", "gauge", "Pieces of an item that can be ordered.")
	for _, item := range items {
		fmt.Fprintf(&text, "shop_inventory_stock{sku=%q} %d\n", item.SKU, item.Stock)
	}
	family("shop_inventory_held_orders", "gauge", "Orders that hold stock.")
	fmt.Fprintf(&text, "shop_inventory_held_orders %d\n", held)
	family("shop_inventory_reservations_total", "counter", "Requests to take stock, by outcome.")
	for _, outcome := range []string{"accepted", "failed", "refused"} {
		fmt.Fprintf(&text, "shop_inventory_reservations_total{outcome=%q} %d\n", outcome, m.reservations[outcome])
	}
	family("http_requests_total", "counter", "Requests answered.")
	labels := make([]string, 0, len(m.requests))
	for label := range m.requests {
		labels = append(labels, label)
	}
	sort.Strings(labels)
	for _, label := range labels {
		fmt.Fprintf(&text, "http_requests_total{%s} %d\n", label, m.requests[label])
	}
	family("http_request_duration_seconds", "histogram", "Time to answer a request.")
	handlers := make([]string, 0, len(m.durations))
	for handler := range m.durations {
		handlers = append(handlers, handler)
	}
	sort.Strings(handlers)
	for _, handler := range handlers {
		h := m.durations[handler]
		for at, bound := range bounds {
			fmt.Fprintf(&text, "http_request_duration_seconds_bucket{handler=%q,le=\"%g\"} %d\n", handler, bound, h.buckets[at])
		}
		fmt.Fprintf(&text, "http_request_duration_seconds_bucket{handler=%q,le=\"+Inf\"} %d\n", handler, h.count)
		fmt.Fprintf(&text, "http_request_duration_seconds_sum{handler=%q} %g\n", handler, h.sum)
		fmt.Fprintf(&text, "http_request_duration_seconds_count{handler=%q} %d\n", handler, h.count)
	}
	family("process_start_time_seconds", "gauge", "Start of the process, in seconds since 1970.")
	fmt.Fprintf(&text, "process_start_time_seconds %d\n", m.began.Unix())
	family("go_goroutines", "gauge", "Goroutines.")
	fmt.Fprintf(&text, "go_goroutines %d\n", runtime.NumGoroutine())
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	_, _ = w.Write([]byte(text.String()))
}
