package telemetry

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"
)

// Batch is the spans of messages that are handled together: of each sampled one a span in its own trace, and of all of
// them one in a trace of the batch, with links to the messages' traces. A batch of messages that are not sampled has no
// spans and costs nothing. A nil Batch has none.
type Batch struct {
	tracer *Tracer
	name   string
	kind   trace.SpanKind
	begun  time.Time
	spans  []trace.Span                // the batch's and those of messages
	own    map[trace.SpanID]trace.Span // those of messages, once they are looked for
}

// Batch begins a batch. name and kind are those of its own span.
func (t *Tracer) Batch(name string, kind trace.SpanKind) *Batch {
	if t == nil {
		return nil
	}
	return &Batch{tracer: t, name: name, kind: kind, begun: time.Now()}
}

// Records tells whether Begin makes a span of a message.
func (b *Batch) Records(traceparent string) bool { return b != nil && Sampled(traceparent) }

// Begin begins the span of a message that has come with a traceparent, below the span that this names. It returns the
// span, and the traceparent with which the message goes on. The span is nil where the message is not sampled.
func (b *Batch) Begin(traceparent, name string, options ...trace.SpanStartOption) (trace.Span, string) {
	if !b.Records(traceparent) {
		return nil, traceparent
	}
	return b.begin(WithTraceparent(context.Background(), traceparent), name, options...)
}

// Admit is Begin for a message of a stranger (FromStranger), which may have come without a traceparent.
func (b *Batch) Admit(traceparent, name string, options ...trace.SpanStartOption) (trace.Span, string) {
	if b == nil {
		return nil, traceparent
	}
	return b.begin(FromStranger(WithTraceparent(context.Background(), traceparent)), name, options...)
}

func (b *Batch) begin(ctx context.Context, name string, options ...trace.SpanStartOption) (trace.Span, string) {
	ctx, span := b.tracer.Start(ctx, name, options...)
	if !span.IsRecording() {
		return nil, Traceparent(ctx)
	}
	b.link(span.SpanContext())
	b.spans = append(b.spans, span)
	return span, Traceparent(ctx)
}

// Link links the batch's span to the span that a traceparent names, if it is sampled. It is for what needs no span of
// its own in the batch.
func (b *Batch) Link(traceparent string) {
	if b.Records(traceparent) {
		b.link(trace.SpanContextFromContext(WithTraceparent(context.Background(), traceparent)))
	}
}

func (b *Batch) link(to trace.SpanContext) {
	if len(b.spans) == 0 {
		_, own := b.tracer.Start(context.WithValue(context.Background(), originKey{}, batchOf), b.name,
			trace.WithSpanKind(b.kind), trace.WithTimestamp(b.begun))
		b.spans = append(b.spans, own)
	}
	b.spans[0].AddLink(trace.Link{SpanContext: to})
}

// Resume begins the span of what had waited and goes on in this batch, below the span of the step after which it
// waited, which its traceparent names. What this batch itself has begun is left alone.
func (b *Batch) Resume(traceparent, name string, options ...trace.SpanStartOption) (goesOn string) {
	if !b.Records(traceparent) {
		return traceparent
	}
	ctx := WithTraceparent(context.Background(), traceparent)
	if b.find(ctx) != nil {
		return traceparent
	}
	_, goesOn = b.begin(ctx, name, options...)
	return goesOn
}

// Follow links the span of a message, which goes on with the traceparent that Begin returned, to the span that begun
// names: the message is about something that began there, in a trace of its own.
func (b *Batch) Follow(goesOn, begun string) {
	if !b.Records(goesOn) || !Sampled(begun) {
		return
	}
	if span := b.find(WithTraceparent(context.Background(), goesOn)); span != nil {
		span.AddLink(trace.Link{SpanContext: trace.SpanContextFromContext(WithTraceparent(context.Background(), begun))})
	}
}

// find returns the span of a message that this batch has begun and whose trace context is in ctx, or nil.
func (b *Batch) find(ctx context.Context) trace.Span {
	if b.own == nil {
		b.own = make(map[trace.SpanID]trace.Span, len(b.spans))
		for _, span := range b.spans {
			b.own[span.SpanContext().SpanID()] = span
		}
	}
	return b.own[trace.SpanContextFromContext(ctx).SpanID()]
}

// WithBatch returns a context by which BatchOf finds the batch.
func WithBatch(ctx context.Context, b *Batch) context.Context {
	if b == nil {
		return ctx
	}
	return context.WithValue(ctx, batchKey{}, b)
}

// BatchOf returns the batch to which the work of ctx belongs, or nil.
func BatchOf(ctx context.Context) *Batch {
	b, _ := ctx.Value(batchKey{}).(*Batch)
	return b
}

type batchKey struct{}

// End ends all spans, with an error if the batch has failed. attributes are of the batch.
func (b *Batch) End(err error, attributes ...attribute.KeyValue) {
	if b == nil {
		return
	}
	for i, span := range b.spans {
		if i == 0 {
			span.SetAttributes(attributes...)
		}
		Fail(span, err)
		span.End()
	}
	b.spans = nil
}

// Fail notes why what a span is about has failed. No error, and no span, change nothing.
func Fail(span trace.Span, err error) {
	if err != nil && span != nil {
		span.SetStatus(codes.Error, err.Error())
	}
}
