package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"sort"
	"sync"
)

// Item is something that the shop sells.
type Item struct {
	SKU        string `json:"sku"`
	Name       string `json:"name"`
	PriceCents int64  `json:"price_cents"`
	Stock      int64  `json:"stock"`
}

// Line is one position of an order.
type Line struct {
	SKU      string `json:"sku"`
	Quantity int64  `json:"quantity"`
}

// change is a line of the journal.
type change struct {
	Reserve string           `json:"reserve,omitempty"`
	Lines   []Line           `json:"lines,omitempty"`
	Release string           `json:"release,omitempty"`
	Set     string           `json:"set,omitempty"`
	Stock   int64            `json:"stock,omitempty"`
	Levels  map[string]int64 `json:"levels,omitempty"`
	// Together with Levels, which they are already taken off.
	Held map[string][]Line `json:"held,omitempty"`
}

var (
	errUnknown     = errors.New("no such item")
	errSoldOut     = errors.New("not enough in stock")
	errBadQuantity = errors.New("quantities are from 1 to 1000")
	errOtherOrder  = errors.New("the order has another reservation")
)

// Stock is the state of the store room. Every change is in the journal, on the disk, before it is visible.
type Stock struct {
	mu           sync.Mutex
	items        map[string]*Item
	reservations map[string][]Line
	path         string
	journal      *os.File
	// Changes since the journal was last written anew.
	changes int
	broken  error
}

// longest is how many changes a journal holds before it is written anew.
const longest = 10_000

func readCatalogue(path string) ([]Item, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read catalogue: %w", err)
	}
	var items []Item
	if err := json.Unmarshal(text, &items); err != nil {
		return nil, fmt.Errorf("read catalogue %s: %w", path, err)
	}
	for _, item := range items {
		if item.SKU == "" || item.PriceCents < 0 || item.Stock < 0 {
			return nil, fmt.Errorf("read catalogue %s: item %q is not valid", path, item.SKU)
		}
	}
	return items, nil
}

// openStock replays the journal in dir on top of the catalogue, then writes a new, short one.
func openStock(dir string, catalogue []Item) (*Stock, error) {
	s := &Stock{items: map[string]*Item{}, reservations: map[string][]Line{}}
	for _, item := range catalogue {
		item := item
		s.items[item.SKU] = &item
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("open stock: %w", err)
	}
	s.path = filepath.Join(dir, "journal")
	if err := s.replay(s.path); err != nil {
		return nil, fmt.Errorf("open stock: %w", err)
	}
	if err := s.compact(); err != nil {
		return nil, fmt.Errorf("open stock: %w", err)
	}
	return s, nil
}

func (s *Stock) replay(path string) error {
	file, err := os.Open(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	reader := bufio.NewReader(file)
	for number := 1; ; number++ {
		line, err := reader.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			if len(line) > 0 {
				// Never answered for: the last write before a crash.
				log.Printf("journal: line %d is not whole and is dropped", number)
			}
			return nil
		}
		if err != nil {
			return err
		}
		var c change
		if err := json.Unmarshal(line, &c); err != nil {
			return fmt.Errorf("journal line %d: %w", number, err)
		}
		s.apply(c)
	}
}

// compact writes a journal that holds only the present state, and puts it in place of the old one.
func (s *Stock) compact() error {
	path := s.path
	next, err := os.OpenFile(path+".new", os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	levels := map[string]int64{}
	for sku, item := range s.items {
		levels[sku] = item.Stock
	}
	if err := json.NewEncoder(next).Encode(change{Levels: levels, Held: s.reservations}); err != nil {
		return err
	}
	if err := next.Sync(); err != nil {
		return err
	}
	if err := os.Rename(path+".new", path); err != nil {
		return err
	}
	if dir, err := os.Open(filepath.Dir(path)); err == nil {
		_ = dir.Sync()
		_ = dir.Close()
	}
	if s.journal != nil {
		_ = s.journal.Close()
	}
	s.journal, s.changes = next, 0
	return nil
}

func (s *Stock) apply(c change) {
	for _, line := range c.Lines {
		if item := s.items[line.SKU]; item != nil && c.Reserve != "" {
			item.Stock -= line.Quantity
		}
	}
	if c.Reserve != "" {
		s.reservations[c.Reserve] = c.Lines
	}
	if c.Release != "" {
		for _, line := range s.reservations[c.Release] {
			if item := s.items[line.SKU]; item != nil {
				item.Stock += line.Quantity
			}
		}
		delete(s.reservations, c.Release)
	}
	if item := s.items[c.Set]; item != nil {
		item.Stock = c.Stock
	}
	for sku, level := range c.Levels {
		if item := s.items[sku]; item != nil {
			item.Stock = level
		}
	}
	for order, lines := range c.Held {
		s.reservations[order] = lines
	}
}

// commit writes a change to the disk, then makes it visible.
func (s *Stock) commit(c change) error {
	if s.broken != nil {
		return s.broken
	}
	line, err := json.Marshal(c)
	if err != nil {
		return err
	}
	_, err = s.journal.Write(append(line, '\n'))
	if err == nil {
		err = s.journal.Sync()
	}
	if err != nil {
		// What the disk holds now is unknown: nothing more is promised until a restart has read it.
		s.broken = fmt.Errorf("write journal: %w", err)
		return s.broken
	}
	s.apply(c)
	if s.changes++; s.changes >= longest {
		if err := s.compact(); err != nil {
			// The old journal still holds everything.
			log.Printf("journal is not written anew: %v", err)
			s.changes = 0
		}
	}
	return nil
}

// Items lists everything, by SKU.
func (s *Stock) Items() []Item {
	s.mu.Lock()
	defer s.mu.Unlock()
	items := make([]Item, 0, len(s.items))
	for _, item := range s.items {
		items = append(items, *item)
	}
	sort.Slice(items, func(a, b int) bool { return items[a].SKU < items[b].SKU })
	return items
}

// Item finds one.
func (s *Stock) Item(sku string) (Item, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	item := s.items[sku]
	if item == nil {
		return Item{}, errUnknown
	}
	return *item, nil
}

// Reserve takes stock for an order, all of it or nothing. Asked again for the same order, it is the same.
func (s *Stock) Reserve(order string, lines []Line) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if before, ok := s.reservations[order]; ok {
		if len(before) != len(lines) {
			return errOtherOrder
		}
		for at := range lines {
			if before[at] != lines[at] {
				return errOtherOrder
			}
		}
		return nil
	}
	wanted := map[string]int64{}
	for _, line := range lines {
		if line.Quantity < 1 || line.Quantity > 1000 {
			return errBadQuantity
		}
		wanted[line.SKU] += line.Quantity
	}
	if len(wanted) == 0 {
		return errBadQuantity
	}
	for sku, quantity := range wanted {
		item := s.items[sku]
		if item == nil {
			return fmt.Errorf("%s: %w", sku, errUnknown)
		}
		if item.Stock < quantity {
			return fmt.Errorf("%s: %w: %d left", sku, errSoldOut, item.Stock)
		}
	}
	return s.commit(change{Reserve: order, Lines: lines})
}

// Release puts the stock of an order back. An order that is not known has nothing to put back.
func (s *Stock) Release(order string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, ok := s.reservations[order]; !ok {
		return nil
	}
	return s.commit(change{Release: order})
}

// Set says how much there is.
func (s *Stock) Set(sku string, stock int64) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.items[sku] == nil {
		return errUnknown
	}
	if stock < 0 {
		return errBadQuantity
	}
	return s.commit(change{Set: sku, Stock: stock})
}

// Reservations counts the orders that hold stock.
func (s *Stock) Reservations() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.reservations)
}

// Healthy tells whether changes can still be kept.
func (s *Stock) Healthy() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.broken
}

// Close ends it.
func (s *Stock) Close() error { return s.journal.Close() }
