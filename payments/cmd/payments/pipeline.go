package main

import (
	"context"
	"errors"
	"time"

	"github.com/jmoiron/sqlx"
	"golang.org/x/sync/errgroup"

	"github.com/altyn-pay/altyn/platform/actions"
	"github.com/altyn-pay/altyn/platform/contract"
	"github.com/altyn-pay/altyn/platform/inbox"
	"github.com/altyn-pay/altyn/platform/kafka"
	"github.com/altyn-pay/altyn/platform/outbox"
	"github.com/altyn-pay/altyn/platform/service"

	"github.com/altyn-pay/altyn/payments/internal/billing"
	"github.com/altyn-pay/altyn/payments/internal/broker"
	"github.com/altyn-pay/altyn/payments/internal/ledger"
	"github.com/altyn-pay/altyn/payments/internal/postgres"
	"github.com/altyn-pay/altyn/payments/internal/settlement"
)

// reads are the topics that are consumed.
var reads = []string{contract.TopicOrders, contract.TopicCommands, contract.TopicInventory}

// topics are those that payments reads or writes, with their dead letters.
var topics = []string{
	contract.TopicOrders, contract.DeadLetter(contract.TopicOrders),
	contract.TopicPayments,
	contract.TopicCommands, contract.DeadLetter(contract.TopicCommands),
	contract.TopicReplies,
	contract.TopicInventory, contract.DeadLetter(contract.TopicInventory),
	contract.TopicHeads,
}

var errUntimed = errors.New("the topics' messages do not have the broker's time yet")

// settlers is how many batches a process settles at the same time: while one waits for its commit, another one works.
const settlers = 2

// pipeline is the way of a message through payments: from the broker into the inbox, through the settlement, and from
// the outbox to the broker.
type pipeline struct {
	db       *sqlx.DB
	producer *kafka.Producer
	access   *broker.Access
	timed    chan struct{} // closed once a message of anybody's topic tells when it came, by which its token is judged
	receiver *inbox.Receiver[broker.Record, *ledger.Request]
	goods    *settlement.Inventory
	worker   *inbox.Worker[*ledger.Request]
	intake   *inbox.Intake[*ledger.Request]
	relay    *outbox.Relay
	runs     []func(context.Context) error
}

func newPipeline(process *service.Process, store *postgres.Store, results *billing.Results, retry inbox.Retry,
	healAfter time.Duration) (*pipeline, error) {
	cfg, log, metrics := process.Config.Kafka, process.Log, process.Metrics
	producer, err := kafka.NewProducer(cfg, log, metrics)
	if err != nil {
		return nil, err
	}
	consumer, err := kafka.NewConsumer(cfg, name, reads, log, metrics)
	if err != nil {
		return nil, err
	}
	process.Health.Show("kafka", func(ctx context.Context) error { return kafka.Ping(ctx, cfg) })
	p := &pipeline{db: process.DB, producer: producer, access: broker.NewAccess(process.Tokens, log,
		func(ctx context.Context, list []actions.Action) error { return actions.Record(ctx, process.DB, list) }),
		timed: make(chan struct{})}
	p.relay = outbox.NewRelay(process.DB, kafka.NewPublisher(producer, "/"+name).Traced(process.Tracer), log, metrics)
	p.relay.Instead(contract.RepliesInstead)
	settle := settlement.New(store, process.Currencies, log, metrics, func(result settlement.Result) {
		p.relay.Wake()
		for _, op := range result.Operations {
			results.Publish(op.ID, op)
		}
		if result.More {
			p.worker.Wake()
		}
		if result.Inventory {
			p.goods.Wake()
		}
	})
	settle.Now = process.Clock.Now
	p.worker = inbox.NewWorker(store.Inbox(), settle.Settle, retry, log, metrics)
	p.worker.Describe, p.worker.Tracer = settlement.Describe, process.Tracer
	p.intake = inbox.NewIntake(store.Inbox(), p.worker)
	decoder := broker.NewDecoder(store, process.Currencies, producer.HasTopic)
	p.receiver = inbox.NewReceiver(p.intake, decoder.Decode, broker.Repeated)
	p.goods = settlement.NewInventory(store, p.worker.Wake, log, metrics)
	p.runs = []func(context.Context) error{
		func(ctx context.Context) error { return kafka.KeepTopics(ctx, cfg, log, topics...) },
		func(ctx context.Context) error {
			if process.Tokens.On() {
				if err := kafka.AwaitBrokersTime(ctx, cfg, log, contract.TopicCommands, contract.TopicInventory); err != nil {
					return err
				}
			}
			if ctx.Err() == nil {
				close(p.timed)
			}
			return nil
		},
		func(ctx context.Context) error { return consumer.Run(ctx, kafka.Traced(process.Tracer, p.receive)) },
		p.goods.Run, p.relay.Run,
		settlement.Expiry(store, process.Tracer, log, p.worker.Wake).Run,
		settlement.Retelling(store, healAfter, log, p.worker.Wake).Run,
		settlement.Chain(store, log, p.relay.Wake).Run,
	}
	for range settlers {
		p.runs = append(p.runs, p.worker.Run)
	}
	return p, nil
}

// receive takes in a batch of a topic: what the inventory system says by its orders, everything else into the inbox.
// While it cannot be told who has sent one of its messages the topic waits, and the others go on.
func (p *pipeline) receive(ctx context.Context, messages []kafka.Message) error {
	topic := messages[0].Topic
	if contract.FromAnyone(topic) {
		select {
		case <-p.timed:
		default:
			return errUntimed
		}
	}
	records, err := p.access.Judge(ctx, messages)
	if err != nil {
		return err
	}
	take := p.receiver.Receive
	if topic == contract.TopicInventory {
		take = p.goods.Receive
	}
	// An error repeats the whole batch. The dead letters come last; they are tried until each is safe.
	unreadable, reasons, err := take(ctx, records)
	if err != nil {
		return err
	}
	if len(unreadable) == 0 {
		return nil
	}
	dead := make([]kafka.Message, len(unreadable))
	for i, record := range unreadable {
		dead[i] = record.Dead()
	}
	return p.producer.DeadLetters(ctx, dead, reasons, p.park)
}

// park keeps what is not kept as a dead letter where operators find it.
func (p *pipeline) park(ctx context.Context, records []kafka.Message, reasons []error) error {
	messages := make([]inbox.Stored, len(records))
	for i, record := range records {
		var err error
		if messages[i], err = broker.Unreadable(record, reasons[i]); err != nil {
			return err
		}
	}
	return inbox.Park(ctx, p.db, messages, reasons)
}

// run works until ctx ends.
func (p *pipeline) run(ctx context.Context) error {
	defer p.producer.Close()
	group, ctx := errgroup.WithContext(ctx)
	for _, run := range p.runs {
		group.Go(func() error { return run(ctx) })
	}
	return group.Wait()
}
