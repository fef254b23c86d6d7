package contract

// Right is what a user of the broker may do with topics or groups, in the words of Kafka's access control lists.
type Right struct {
	User       string
	Group      bool // whether it is about consumer groups, not topics
	Name       string
	Prefix     bool // whether Name is the beginning of the names
	Operations []string
}

// The users of the broker. The names of those who send commands are their own.
const (
	OrdersUser    = "orders"    // the service
	PaymentsUser  = "payments"  // the service
	OwnerUser     = "owner"     // who creates the topics, with the command topics of each service
	OperatorUser  = "operator"  // who puts dead letters back, and has a service go on that was restored
	ShopUser      = "shop"      // stands for each system that sends commands: the tenant shop
	WarehouseUser = "warehouse" // the inventory system
)

// RestoredGroup is the consumer group in which orders reads its own events after a restoration.
const RestoredGroup = "orders.restored"

// settings are what a service needs to see whether a topic loses messages, beside what it does there.
const settings = "DescribeConfigs"

// Rights is the least that each user needs. Kafka lets whoever may read or write a topic or a group see it too.
func Rights() []Right {
	var rights []Right
	topic := func(user, name string, operations ...string) {
		rights = append(rights, Right{User: user, Name: name, Operations: operations})
	}
	group := func(user, name string) {
		rights = append(rights, Right{User: user, Group: true, Name: name, Operations: []string{"Read"}})
	}
	topic(OrdersUser, TopicOrders, "Write", settings)
	topic(OrdersUser, TopicPayments, "Read", settings)
	topic(OrdersUser, DeadLetter(TopicPayments), "Write", settings)
	group(OrdersUser, "orders")

	topic(PaymentsUser, TopicOrders, "Read", settings)
	topic(PaymentsUser, TopicCommands, "Read", settings)
	topic(PaymentsUser, TopicInventory, "Read", settings)
	topic(PaymentsUser, TopicPayments, "Write", settings)
	topic(PaymentsUser, TopicReplies, "Write", settings)
	rights = append(rights, Right{User: PaymentsUser, Name: ReplyToPrefix, Prefix: true, Operations: []string{"Write"}})
	topic(PaymentsUser, TopicHeads, "Write", settings)
	for _, name := range []string{TopicOrders, TopicCommands, TopicInventory} {
		topic(PaymentsUser, DeadLetter(name), "Write", settings)
	}
	group(PaymentsUser, "payments")

	for _, name := range Topics() {
		operations := []string{"Create", "Describe", settings}
		if FromAnyone(name) {
			operations = append(operations, "AlterConfigs")
		}
		topic(OwnerUser, name, operations...)
	}
	for _, name := range []string{TopicOrders, TopicPayments, TopicCommands, TopicInventory} {
		topic(OperatorUser, DeadLetter(name), "Read")
		topic(OperatorUser, name, "Write", "Read") // after a restoration, the services' groups go back
	}
	group(OperatorUser, "orders.put-back")
	group(OperatorUser, "payments.put-back")
	group(OperatorUser, RestoredGroup)
	group(OperatorUser, "orders")
	group(OperatorUser, "payments")

	topic(ShopUser, TopicCommands, "Write")
	topic(ShopUser, ReplyToPrefix+ShopUser, "Read")
	rights = append(rights,
		Right{User: ShopUser, Group: true, Name: ShopUser + ".", Prefix: true, Operations: []string{"Read"}})
	topic(WarehouseUser, TopicInventory, "Write")
	return rights
}
