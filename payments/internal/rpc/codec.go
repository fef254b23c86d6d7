package rpc

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"

	"connectrpc.com/connect"
)

// strict are the options by which requests are read strictly. Connect's own codecs leave out the fields that they do
// not know: a refund whose amount is misspelt would return everything. A field that is not known is refused in either
// form, because a newer client that says more than this service understands must not be half understood.
var strict = connect.WithHandlerOptions(
	connect.WithCodec(jsonCodec{"json"}), connect.WithCodec(jsonCodec{"json; charset=utf-8"}),
	connect.WithCodec(protoCodec{}),
)

// jsonCodec is the JSON form of protobuf, for one spelling of its content type.
type jsonCodec struct{ name string }

func (c jsonCodec) Name() string { return c.name }

func (jsonCodec) Marshal(message any) ([]byte, error) {
	return protojson.Marshal(message.(proto.Message))
}

func (jsonCodec) Unmarshal(text []byte, message any) error {
	m := message.(proto.Message)
	if err := checkNames(text, m.ProtoReflect().Descriptor().Fields()); err != nil {
		return err
	}
	return protojson.Unmarshal(text, m)
}

// checkNames refuses an object with a name that is no field, or one that names a field again: by protojson null does
// not count as a value. What is no object is left to protojson.
func checkNames(text []byte, fields protoreflect.FieldDescriptors) error {
	d := json.NewDecoder(bytes.NewReader(text))
	if begin, err := d.Token(); err != nil || begin != json.Delim('{') {
		return nil
	}
	seen := make(map[protoreflect.FieldNumber]bool)
	for d.More() {
		token, err := d.Token()
		name, ok := token.(string)
		if err != nil || !ok {
			return nil
		}
		field := fields.ByJSONName(name)
		if field == nil {
			field = fields.ByTextName(name)
		}
		switch {
		case field == nil:
			return fmt.Errorf("unknown field %q", name)
		case seen[field.Number()]:
			return fmt.Errorf("the field %q comes twice", name)
		}
		seen[field.Number()] = true
		var value json.RawMessage
		if err := d.Decode(&value); err != nil {
			return nil
		}
	}
	return nil
}

// protoCodec is the binary form.
type protoCodec struct{}

func (protoCodec) Name() string { return "proto" }

func (protoCodec) Marshal(message any) ([]byte, error) { return proto.Marshal(message.(proto.Message)) }

func (protoCodec) Unmarshal(data []byte, message any) error {
	m := message.(proto.Message)
	if err := proto.Unmarshal(data, m); err != nil {
		return err
	}
	return checkFields(m.ProtoReflect())
}

// checkFields refuses a message with a field, its own or one of a message in it, that is not known.
func checkFields(m protoreflect.Message) (err error) {
	if unknown := m.GetUnknown(); len(unknown) > 0 {
		number, _, n := protowire.ConsumeTag(unknown)
		if n < 0 {
			return errors.New("unknown field")
		}
		return fmt.Errorf("unknown field %d of %s", number, m.Descriptor().FullName())
	}
	m.Range(func(field protoreflect.FieldDescriptor, value protoreflect.Value) bool {
		if field.Message() != nil && !field.IsList() && !field.IsMap() {
			err = checkFields(value.Message())
		}
		return err == nil
	})
	return err
}
