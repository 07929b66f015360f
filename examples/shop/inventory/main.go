// Inventory knows what the shop sells and how much of it is left.
//
//	GET    /items               everything, with prices and stock
//	GET    /items/SKU           one item
//	PUT    /items/SKU           set its stock: {"stock": 5}         (token)
//	POST   /reservations        take stock for an order             (token)
//	DELETE /reservations/ORDER  put it back                         (token)
//	GET    /healthz, /metrics
//
// What is sold comes from a catalogue file; what is left is kept in a journal, which is on the disk before a request is
// answered.
package main

import (
	"context"
	"errors"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

func main() {
	log.SetFlags(log.LUTC | log.LstdFlags)
	if err := run(); err != nil {
		log.Fatal(err)
	}
}

func run() error {
	catalogue, err := readCatalogue(setting("CATALOGUE", "/etc/shop/catalogue.json"))
	if err != nil {
		return err
	}
	stock, err := openStock(setting("DATA_DIR", "/data"), catalogue)
	if err != nil {
		return err
	}
	defer stock.Close()
	server := &http.Server{
		Addr:              ":" + setting("PORT", "8080"),
		Handler:           newHandler(stock, os.Getenv("INVENTORY_TOKEN")),
		ReadHeaderTimeout: 5 * time.Second,
		ReadTimeout:       10 * time.Second,
	}
	stop, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer cancel()
	go func() {
		<-stop.Done()
		log.Print("stopping: requests under way are finished")
		last, cancel := context.WithTimeout(context.Background(), 8*time.Second)
		defer cancel()
		_ = server.Shutdown(last)
	}()
	log.Printf("%d items, %d reservations, listening on %s", len(catalogue), stock.Reservations(), server.Addr)
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func setting(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}
