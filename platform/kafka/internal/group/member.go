package group

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	kafkago "github.com/segmentio/kafka-go"

	"github.com/altyn-pay/altyn/platform/kafka/internal/broker"
)

const (
	// A member that says nothing for the session timeout has lost its partitions. While the group rebalances, members
	// have the rebalance timeout to finish what they are handling, hence it is longer than handleGrace.
	// By heartbeats a member learns that the group rebalances, so they decide how long a hand-over takes.
	heartbeatInterval = 200 * time.Millisecond
	sessionTimeout    = 10 * time.Second
	rebalanceTimeout  = 15 * time.Second

	// leaveTimeout bounds the last commit and the leave request of a member that stops.
	leaveTimeout = 5 * time.Second

	groupProtocol = "consumer" // the class of protocols that Kafka's own consumers use
)

var errSession = fmt.Errorf("no heartbeat was answered for %s", sessionTimeout)

// balancer gives each member a contiguous range of each topic's partitions.
var balancer = kafkago.RangeGroupBalancer{}

// Member is this process in a consumer group. It speaks the group protocol itself, because kafka-go's ConsumerGroup
// forgets its member ID with every lost connection: each time a broker restarts, the group would wait ten seconds for
// a member that no longer exists.
type Member struct {
	pool    *broker.Pool
	waiting *kafkago.Client // for joining, which waits for the other members
	group   string
	topics  []string
	// instance, unless it is "", is the name by which the group knows the member again after a restart (static
	// membership, KIP-345). It never leaves then: its partitions wait for it, for the session timeout.
	instance string

	id         string // given by the coordinator; empty before the first join and after an eviction
	generation int    // negative before the first join: offsets can be committed while the group has no members
}

// assignment is the partitions of a member in a generation.
type assignment struct {
	ids        map[string][]int           // by topic
	offsets    map[broker.Partition]int64 // of the next message to handle; negative where nothing was committed yet
	partitions map[string]int             // how many partitions each topic had
}

// NewMember makes a member that has not joined yet.
func NewMember(pool *broker.Pool, group string, topics []string) *Member {
	waiting := *pool.Client
	waiting.Timeout += rebalanceTimeout
	return &Member{pool: pool, waiting: &waiting, group: group, topics: topics, generation: -1}
}

// join enters the group or its next generation. It waits until the other members have finished their work.
func (m *Member) join(ctx context.Context) (assignment, error) {
	partitions, err := m.pool.Partitions(ctx, m.topics...)
	if err != nil {
		return assignment{}, err
	}
	joined, err := m.joinGroup(ctx)
	if err != nil {
		return assignment{}, err
	}
	m.id, m.generation = joined.MemberID, joined.GenerationID
	assigned, err := m.syncGroup(ctx, joined)
	if err != nil {
		return assignment{}, err
	}
	offsets, err := m.Committed(ctx, assigned)
	return assignment{assigned, offsets, partitions}, err
}

func (m *Member) joinGroup(ctx context.Context) (*kafkago.JoinGroupResponse, error) {
	for {
		joined, err := m.waiting.JoinGroup(ctx, &kafkago.JoinGroupRequest{
			GroupID: m.group, MemberID: m.id, GroupInstanceID: m.instance,
			SessionTimeout: sessionTimeout, RebalanceTimeout: rebalanceTimeout,
			ProtocolType: groupProtocol,
			Protocols: []kafkago.GroupProtocol{{
				Name: balancer.ProtocolName(), Metadata: kafkago.GroupProtocolSubscription{Topics: m.topics},
			}},
		})
		if err == nil {
			err = joined.Error
		}
		if m.id == "" && errors.Is(err, kafkago.MemberIDRequired) {
			m.id = joined.MemberID
			continue
		}
		m.evicted(err)
		return joined, err
	}
}

// syncGroup gets the member's partitions. The member that leads the group distributes them.
func (m *Member) syncGroup(ctx context.Context, joined *kafkago.JoinGroupResponse) (map[string][]int, error) {
	request := &kafkago.SyncGroupRequest{
		GroupID: m.group, GenerationID: m.generation, MemberID: m.id, GroupInstanceID: m.instance,
		ProtocolType: groupProtocol, ProtocolName: balancer.ProtocolName(),
	}
	if joined.LeaderID == m.id {
		assignments, err := m.distribute(ctx, joined.Members)
		if err != nil {
			return nil, err
		}
		request.Assignments = assignments
	}
	synced, err := m.waiting.SyncGroup(ctx, request)
	if err == nil {
		err = synced.Error
	}
	m.evicted(err)
	if err != nil {
		return nil, err
	}
	return synced.Assignment.AssignedPartitions, nil
}

func (m *Member) distribute(ctx context.Context, joined []kafkago.JoinGroupResponseMember) (
	[]kafkago.SyncGroupRequestAssignment, error) {
	var topics []string // members of another version of a service may read other topics than this one
	members := make([]kafkago.GroupMember, len(joined))
	for i, member := range joined {
		topics = append(topics, member.Metadata.Topics...)
		members[i] = kafkago.GroupMember{ID: member.ID, Topics: member.Metadata.Topics}
	}
	slices.Sort(topics)
	counts, err := m.pool.Partitions(ctx, slices.Compact(topics)...)
	if err != nil {
		return nil, err
	}
	var partitions []kafkago.Partition
	for topic, count := range counts {
		for id := range count {
			partitions = append(partitions, kafkago.Partition{Topic: topic, ID: id})
		}
	}
	var assignments []kafkago.SyncGroupRequestAssignment
	for id, assigned := range balancer.AssignGroups(members, partitions) {
		assignments = append(assignments, kafkago.SyncGroupRequestAssignment{
			MemberID: id, Assignment: kafkago.GroupProtocolAssignment{AssignedPartitions: assigned},
		})
	}
	return assignments, nil
}

// Committed returns the offsets that the group has committed of these partitions.
func (m *Member) Committed(ctx context.Context, partitions map[string][]int) (map[broker.Partition]int64, error) {
	offsets := map[broker.Partition]int64{}
	if len(partitions) == 0 {
		return offsets, nil
	}
	response, err := m.pool.Client.OffsetFetch(ctx, &kafkago.OffsetFetchRequest{GroupID: m.group, Topics: partitions})
	if err == nil {
		err = response.Error
	}
	if err != nil {
		return nil, err
	}
	for topic, committed := range response.Topics {
		for _, p := range committed {
			if p.Error != nil {
				return nil, p.Error
			}
			offsets[broker.Partition{Topic: topic, ID: p.Partition}] = p.CommittedOffset
		}
	}
	return offsets, nil
}

// heartbeat tells the coordinator that the member is alive. Its error may say that the generation is over.
func (m *Member) heartbeat(ctx context.Context) error {
	response, err := m.pool.Client.Heartbeat(ctx, &kafkago.HeartbeatRequest{
		GroupID: m.group, GenerationID: int32(m.generation), MemberID: m.id, GroupInstanceID: m.instance,
	})
	if err != nil {
		return err
	}
	// kafka-go v0.4.51 reads the fields of this response in the wrong order, so that the error code ends up in the lower
	// half of the throttle time. TestRebalanceWaitsForTheHandler fails when it does not any more.
	if code := int16(response.Throttle.Milliseconds()); code != 0 {
		return kafkago.Error(code)
	}
	return response.Error
}

// Commit stores offsets for the group.
func (m *Member) Commit(ctx context.Context, offsets map[broker.Partition]int64) error {
	topics := map[string][]kafkago.OffsetCommit{}
	for p, offset := range offsets {
		topics[p.Topic] = append(topics[p.Topic], kafkago.OffsetCommit{Partition: p.ID, Offset: offset})
	}
	response, err := m.pool.Client.OffsetCommit(ctx, &kafkago.OffsetCommitRequest{
		GroupID: m.group, GenerationID: m.generation, MemberID: m.id, InstanceID: m.instance, Topics: topics,
	})
	if err != nil {
		return err
	}
	for _, partitions := range response.Topics {
		for _, p := range partitions {
			err = errors.Join(err, p.Error)
		}
	}
	return err
}

// leave gives the partitions to the other members at once instead of after the session timeout.
func (m *Member) leave() error {
	if m.id == "" || m.instance != "" {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), leaveTimeout)
	defer cancel()
	response, err := m.pool.Client.LeaveGroup(ctx, &kafkago.LeaveGroupRequest{
		GroupID: m.group, Members: []kafkago.LeaveGroupRequestMember{{ID: m.id}},
	})
	if err != nil {
		return err
	}
	return response.Members[0].Error
}

// evicted forgets the member ID when an error says that the group has.
func (m *Member) evicted(err error) {
	if broker.IsAny(err, kafkago.UnknownMemberId) {
		m.id = ""
	}
}

// generationOver tells whether an error of a heartbeat or commit means that the partitions are no longer the member's.
// After any other error it is worth trying again.
func generationOver(err error) bool {
	return broker.IsAny(err, kafkago.RebalanceInProgress, kafkago.IllegalGeneration, kafkago.UnknownMemberId,
		kafkago.FencedInstanceID)
}

// keepAlive sends heartbeats until ctx ends. It calls end when the coordinator says that the generation is over, and
// when the coordinator must have given the member up. It calls beat with the result of any other heartbeat.
func (m *Member) keepAlive(ctx context.Context, end context.CancelCauseFunc, beat func(err error)) {
	ticker := time.NewTicker(heartbeatInterval)
	defer ticker.Stop()
	for last := time.Now(); ; {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		err := m.heartbeat(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case generationOver(err):
			end(err)
			continue
		case err == nil:
			last = time.Now()
		default:
			m.pool.Forget()
			if time.Since(last) > sessionTimeout {
				end(errSession)
			}
		}
		beat(err)
	}
}
