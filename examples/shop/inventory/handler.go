package main

import (
	"crypto/subtle"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"
)

// largest is the most bytes of a request's body.
const largest = 64 << 10

type handler struct {
	stock   *Stock
	token   string
	metrics *metrics
}

// newHandler answers requests. An empty token lets nobody change anything.
func newHandler(stock *Stock, token string) http.Handler {
	h := &handler{stock: stock, token: token, metrics: newMetrics(stock)}
	mux := http.NewServeMux()
	mux.HandleFunc("/items", h.counted("/items", h.items))
	mux.HandleFunc("/items/", h.counted("/items/", h.item))
	mux.HandleFunc("/reservations", h.counted("/reservations", h.reserve))
	mux.HandleFunc("/reservations/", h.counted("/reservations/", h.release))
	mux.HandleFunc("/healthz", h.health)
	mux.HandleFunc("/metrics", h.metrics.serve)
	return mux
}

// recorder remembers the status for the metrics.
type recorder struct {
	http.ResponseWriter
	status int
}

func (r *recorder) WriteHeader(status int) {
	r.status = status
	r.ResponseWriter.WriteHeader(status)
}

func (h *handler) counted(name string, next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		began := time.Now()
		recorder := &recorder{ResponseWriter: w, status: http.StatusOK}
		r.Body = http.MaxBytesReader(recorder, r.Body, largest)
		next(recorder, r)
		h.metrics.observe(name, r.Method, recorder.status, time.Since(began))
	}
}

func (h *handler) items(w http.ResponseWriter, r *http.Request) {
	if only(w, r, http.MethodGet) {
		answer(w, http.StatusOK, h.stock.Items())
	}
}

func (h *handler) item(w http.ResponseWriter, r *http.Request) {
	sku := strings.TrimPrefix(r.URL.Path, "/items/")
	switch r.Method {
	case http.MethodGet:
		item, err := h.stock.Item(sku)
		if err != nil {
			refuse(w, err)
			return
		}
		answer(w, http.StatusOK, item)
	case http.MethodPut:
		var body struct {
			Stock *int64 `json:"stock"`
		}
		if !h.allowed(w, r) || !read(w, r, &body) {
			return
		}
		if body.Stock == nil {
			answer(w, http.StatusBadRequest, problem{"stock is missing"})
			return
		}
		if err := h.stock.Set(sku, *body.Stock); err != nil {
			refuse(w, err)
			return
		}
		item, _ := h.stock.Item(sku)
		answer(w, http.StatusOK, item)
	default:
		only(w, r, http.MethodGet, http.MethodPut)
	}
}

func (h *handler) reserve(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Order string `json:"order"`
		Lines []Line `json:"lines"`
	}
	if !only(w, r, http.MethodPost) || !h.allowed(w, r) || !read(w, r, &body) {
		return
	}
	if body.Order == "" || len(body.Order) > 100 || len(body.Lines) > 100 {
		answer(w, http.StatusBadRequest, problem{"an order has a name and up to 100 lines"})
		return
	}
	err := h.stock.Reserve(body.Order, body.Lines)
	h.metrics.reserved(err)
	if err != nil {
		refuse(w, err)
		return
	}
	answer(w, http.StatusCreated, body)
}

func (h *handler) release(w http.ResponseWriter, r *http.Request) {
	if !only(w, r, http.MethodDelete) || !h.allowed(w, r) {
		return
	}
	if err := h.stock.Release(strings.TrimPrefix(r.URL.Path, "/reservations/")); err != nil {
		refuse(w, err)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (h *handler) health(w http.ResponseWriter, r *http.Request) {
	if err := h.stock.Healthy(); err != nil {
		answer(w, http.StatusServiceUnavailable, problem{err.Error()})
		return
	}
	answer(w, http.StatusOK, map[string]string{"status": "ok"})
}

// allowed checks the token that the order service shows.
func (h *handler) allowed(w http.ResponseWriter, r *http.Request) bool {
	shown := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	if h.token == "" || subtle.ConstantTimeCompare([]byte(shown), []byte(h.token)) != 1 {
		answer(w, http.StatusUnauthorized, problem{"a token is needed"})
		return false
	}
	return true
}

type problem struct {
	Error string `json:"error"`
}

func refuse(w http.ResponseWriter, err error) {
	status := http.StatusInternalServerError
	switch {
	case errors.Is(err, errUnknown):
		status = http.StatusNotFound
	case errors.Is(err, errSoldOut), errors.Is(err, errOtherOrder):
		status = http.StatusConflict
	case errors.Is(err, errBadQuantity):
		status = http.StatusBadRequest
	}
	answer(w, status, problem{err.Error()})
}

func answer(w http.ResponseWriter, status int, body any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(body)
}

func read(w http.ResponseWriter, r *http.Request, into any) bool {
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		answer(w, http.StatusBadRequest, problem{"body: " + err.Error()})
		return false
	}
	return true
}

func only(w http.ResponseWriter, r *http.Request, methods ...string) bool {
	for _, method := range methods {
		if r.Method == method {
			return true
		}
	}
	w.Header().Set("Allow", strings.Join(methods, ", "))
	answer(w, http.StatusMethodNotAllowed, problem{"method not allowed"})
	return false
}
