package main

import (
	"context"
	"strconv"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// first is the time of the first generated event; each next one is a minute's sixth later, so that
// 20,000 of them lie in three days.
var first = time.Date(2025, 10, 30, 0, 0, 0, 0, time.UTC)

const apart = 10 * time.Second

var acciones = [...]string{"click", "view", "purchase"}

// Of 200 events, two come again and one is invalid: 1 % and 0.5 %.
const (
	everyDuplicate = 100
	everyInvalid   = 200
)

// patience is how long a broker may be away.
const patience = 30 * time.Second

// produce sends n events to the topic, keyed by event_id, so that duplicates lie in one
// partition (rule C6). They are numbered on from what the topic has, so that a second run
// brings new ones.
func produce(ctx context.Context, brokers []string, topic string, n int) error {
	cl, err := kgo.NewClient(kgo.SeedBrokers(brokers...), kgo.DefaultProduceTopic(topic),
		kgo.ProducerLinger(5*time.Millisecond), kgo.RetryTimeout(patience), kgo.RecordDeliveryTimeout(patience))
	if err != nil {
		return err
	}
	defer cl.Close()
	from, err := length(ctx, cl, topic)
	if err != nil {
		return err
	}
	failed := make(chan error, 1)
	for i := from; i < from+n && len(failed) == 0; i++ {
		id, value := event(i)
		cl.Produce(ctx, &kgo.Record{Key: []byte(id), Value: value}, func(_ *kgo.Record, err error) {
			if err != nil {
				select {
				case failed <- err:
				default:
				}
			}
		})
	}
	if len(failed) == 0 {
		err = cl.Flush(ctx)
	}
	select {
	case err = <-failed:
	default:
	}
	return err
}

// length is how many records a topic has had. One that is not there is made; where that is not allowed,
// reading it tells.
func length(ctx context.Context, cl *kgo.Client, topic string) (int, error) {
	adm := kadm.NewClient(cl)
	_, err := adm.CreateTopic(ctx, partitions, -1, nil, topic) // -1: replicated as the brokers are set
	made := err == nil
	ends, err := adm.ListEndOffsets(ctx, topic)
	if err == nil && !made { // just after it was made, brokers may not know it yet
		err = ends.Error()
	}
	n := 0
	ends.Each(func(o kadm.ListedOffset) { n += int(max(o.Offset, 0)) })
	return n, err
}

// duplicate tells of which earlier event event i is a copy.
func duplicate(i int) (of int, ok bool) {
	if i%everyDuplicate != everyDuplicate-1 {
		return 0, false
	}
	of = i - 1 - int(mix(uint64(i))%90)
	if invalid(of) {
		of++
	}
	return of, true
}

func invalid(i int) bool { return i%everyInvalid == 57 }

// event is the i-th of the generated events.
func event(i int) (id string, value []byte) {
	if of, ok := duplicate(i); ok {
		return event(of)
	}
	h := mix(uint64(i))
	id = "e" + strconv.Itoa(i)
	ts := first.Add(time.Duration(i) * apart).Format(time.RFC3339)
	user, accion, monto := strconv.FormatUint(h%1000, 10), acciones[h>>20%3], "null"
	if accion == "purchase" {
		monto = strconv.FormatFloat(float64(100+h>>32%50_000)/100, 'f', 2, 64)
	}
	extra := ""
	if h>>40%50 == 0 {
		extra = `,"canal":"web"`
	}
	if invalid(i) {
		switch i / everyInvalid % 5 {
		case 0:
			accion = "scroll"
		case 1:
			monto = "-1.50"
		case 2:
			ts = "ayer"
		case 3:
			user = `"u` + user + `"`
		case 4:
			return id, []byte(`{"event_id":"` + id + `","ts":"` + ts)
		}
	}
	return id, []byte(`{"event_id":"` + id + `","ts":"` + ts + `","usuario_id":` + user + `,"accion":"` + accion + `","monto":` + monto + extra + `}`)
}

// mix is a step of splitmix64.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9
	x = (x ^ (x >> 27)) * 0x94d049bb133111eb
	return x ^ (x >> 31)
}
