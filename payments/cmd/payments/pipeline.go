package main

import (
	"context"
	"log/slog"

	"golang.org/x/sync/errgroup"

	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/inbox"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/platform/outbox"
	"github.com/altyn-pay/altyn/platform/service"

	"github.com/altyn-pay/altyn/payments/internal/api"
	"github.com/altyn-pay/altyn/payments/internal/postgres"
	"github.com/altyn-pay/altyn/payments/internal/settlement"
)

// reads are the topics that are consumed.
var reads = []string{contract.TopicOrders, contract.TopicCommands, contract.TopicInventory}

// topics are those that payments reads or writes, with their dead letters.
var topics = []string{
	contract.TopicOrders, contract.DeadLetter(contract.TopicOrders),
	contract.TopicPayments, contract.DeadLetter(contract.TopicPayments),
	contract.TopicCommands, contract.DeadLetter(contract.TopicCommands),
	contract.TopicReplies,
	contract.TopicInventory, contract.DeadLetter(contract.TopicInventory),
}

// settlers is how many batches a process settles at the same time: while one waits for its commit, another one works.
const settlers = 2

// pipeline is the way of a message through payments: from the broker into the inbox, through the settlement, and from the
// outbox to the broker.
type pipeline struct {
	cfg      kafka.Config
	log      *slog.Logger
	producer *kafka.Producer
	consumer *kafka.Consumer
	receiver *inbox.Receiver[kafka.Message]
	goods    *settlement.Inventory
	worker   *inbox.Worker
	expiry   *settlement.Expiry
	relay    *outbox.Relay
}

func newPipeline(process *service.Process, store *postgres.Store, door *api.Door, retry inbox.Retry) (*pipeline, error) {
	cfg, log, metrics := process.Config.Kafka, process.Log, process.Metrics
	producer, err := kafka.NewProducer(cfg, log, metrics)
	if err != nil {
		return nil, err
	}
	consumer, err := kafka.NewConsumer(cfg, name, reads, log, metrics)
	if err != nil {
		return nil, err
	}
	process.Health.Add("kafka", func(ctx context.Context) error { return kafka.Ping(ctx, cfg) })
	p := &pipeline{cfg: cfg, log: log, producer: producer, consumer: consumer}
	p.relay = outbox.NewRelay(process.DB, kafka.NewPublisher(producer, "/"+name), log, metrics)
	settle := settlement.New(store, process.Currencies, metrics, func(result settlement.Result) {
		p.relay.Wake()
		door.Settled(result.Operations)
		if result.More {
			p.worker.Wake()
		}
		if result.Inventory {
			p.goods.Wake()
		}
	})
	p.worker = inbox.NewWorker(process.DB, settle.Settle, retry, log, metrics)
	p.expiry = settlement.NewExpiry(store, log, p.worker.Wake)
	p.receiver = inbox.NewReceiver(p.worker.Accept, settlement.NewDecoder(store, process.Currencies, producer.HasTopic).Decode, settlement.Repeated, producer.DeadLetters)
	p.goods = settlement.NewInventory(store, producer.DeadLetters, p.worker.Wake, log, metrics)
	return p, nil
}

// receive stores a fetched batch: what the inventory system says by its orders, everything else in the inbox.
func (p *pipeline) receive(ctx context.Context, records []kafka.Message) error {
	requests, goods := make([]kafka.Message, 0, len(records)), []kafka.Message(nil)
	for _, record := range records {
		if record.Topic == contract.TopicInventory {
			goods = append(goods, record)
		} else {
			requests = append(requests, record)
		}
	}
	if len(requests) > 0 {
		if err := p.receiver.Receive(ctx, requests); err != nil {
			return err
		}
	}
	if len(goods) > 0 {
		return p.goods.Receive(ctx, goods)
	}
	return nil
}

// run works until ctx ends.
func (p *pipeline) run(ctx context.Context) error {
	defer p.producer.Close()
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return kafka.KeepTopics(ctx, p.cfg, p.log, topics...) })
	group.Go(func() error { return p.consumer.Run(ctx, p.receive) })
	for range settlers {
		group.Go(func() error { return p.worker.Run(ctx) })
	}
	group.Go(func() error { return p.goods.Run(ctx) })
	group.Go(func() error { return p.expiry.Run(ctx) })
	group.Go(func() error { return p.relay.Run(ctx) })
	return group.Wait()
}
