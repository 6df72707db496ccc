package pulsar

import (
	"context"
	"crypto/tls"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
)

// A connection that speaks just enough of Pulsar's binary protocol for takeOver, which the Go client cannot do, for the lookup before it, and to see whether a host
// welcomes us. The messages are the client's own generated types, reached through protobuf's registry and their JSON form, because their package
// is internal.
// Source: https://pulsar.apache.org/docs/4.0.x/developing-binary-protocol/
const (
	wireProtocolVersion = 20
	wireMaxFrame        = 1 << 20
	wireRedirects       = 20
	wireCommand         = protoreflect.FullName("pulsar.proto.BaseCommand")
)

// wireMessage is pulsar.proto.BaseCommand with the commands that are needed.
type wireMessage struct {
	Type     string        `json:"type"`
	Connect  *wireConnect  `json:"connect,omitempty"`
	Lookup   *wireLookup   `json:"lookupTopic,omitempty"`
	Found    *wireFound    `json:"lookupTopicResponse,omitempty"`
	Producer *wireProducer `json:"producer,omitempty"`
	Close    *wireClose    `json:"closeProducer,omitempty"`
	Refused  *wireRefused  `json:"sendError,omitempty"`
	Error    *wireError    `json:"error,omitempty"`
	Pong     *struct{}     `json:"pong,omitempty"`
}

type wireConnect struct {
	ClientVersion    string `json:"clientVersion"`
	AuthMethodName   string `json:"authMethodName,omitempty"`
	AuthData         []byte `json:"authData,omitempty"`
	ProtocolVersion  int    `json:"protocolVersion"`
	ProxyToBrokerURL string `json:"proxyToBrokerUrl,omitempty"`
}

type wireLookup struct {
	Topic         string `json:"topic"`
	RequestID     uint64 `json:"requestId,string"`
	Authoritative bool   `json:"authoritative"`
}

type wireFound struct {
	URL           string `json:"brokerServiceUrl"`
	URLTLS        string `json:"brokerServiceUrlTls"`
	Response      string `json:"response"`
	Authoritative bool   `json:"authoritative"`
	Error         string `json:"error"`
	Message       string `json:"message"`
	ThroughProxy  bool   `json:"proxyThroughServiceUrl"`
}

type wireProducer struct {
	Topic                    string `json:"topic"`
	ProducerID               uint64 `json:"producerId,string"`
	RequestID                uint64 `json:"requestId,string"`
	ProducerName             string `json:"producerName"`
	UserProvidedProducerName bool   `json:"userProvidedProducerName"`
	ProducerAccessMode       string `json:"producerAccessMode"`
}

type wireClose struct {
	ProducerID uint64 `json:"producerId,string"`
	RequestID  uint64 `json:"requestId,string"`
}

type wireRefused struct {
	ProducerID uint64 `json:"producerId,string"`
	Error      string `json:"error"`
	Message    string `json:"message"`
}

type wireError struct {
	Error   string `json:"error"`
	Message string `json:"message"`
}

// broker is where a topic is served: the host to connect to and, behind a proxy, the broker that the proxy passes to.
type broker struct{ host, behindProxy string }

// wire is one connection. One goroutine uses it.
type wire struct {
	conn  net.Conn
	scrub func(string) string // takes credentials out of what the broker says
}

// dial connects and shakes hands. The connection ends with ctx.
func (s *Sink) dial(ctx context.Context, b broker) (*wire, func(), error) {
	var d net.Dialer
	tcp, err := d.DialContext(ctx, "tcp", b.host)
	if err != nil {
		return nil, nil, fmt.Errorf("connect: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { tcp.Close() }) // what is being read or written then fails
	hangUp := func() {
		stop()
		tcp.Close()
	}
	conn := tcp
	if s.secured() {
		config := s.options.TLSConfig.Clone()
		if config.ServerName == "" {
			config.ServerName = hostname(b.host)
		}
		conn = tls.Client(conn, config)
	}
	w := &wire{conn, s.scrub}
	if err := s.shakeHands(w, b); err != nil {
		hangUp()
		if ctx.Err() != nil {
			err = fmt.Errorf("%w: no answer from Pulsar", ctx.Err())
		}
		return nil, nil, fmt.Errorf("connect to %s: %w", b.host, err)
	}
	return w, hangUp, nil
}

func hostname(hostPort string) string {
	u := url.URL{Host: hostPort}
	return u.Hostname()
}

func (s *Sink) secured() bool { return strings.HasPrefix(s.cfg.URL, "pulsar+ssl://") }

func (s *Sink) shakeHands(w *wire, b broker) error {
	connect := &wireConnect{ClientVersion: "outboxd", ProtocolVersion: wireProtocolVersion, ProxyToBrokerURL: b.behindProxy}
	token, err := s.cfg.token()
	switch {
	case err != nil:
		return err
	case token != "":
		connect.AuthMethodName, connect.AuthData = "token", []byte(token)
	case s.cfg.Username != "":
		connect.AuthMethodName, connect.AuthData = "basic", []byte(s.cfg.Username+":"+s.cfg.Password)
	case s.cfg.TLS.CertFile != "":
		connect.AuthMethodName = "tls"
	}
	_, err = w.ask(wireMessage{Type: "CONNECT", Connect: connect}, "CONNECTED")
	return err
}

// ask sends a command and returns the answer of the given type. Anything else that comes is passed over, but for pings, which are
// answered, and errors.
func (w *wire) ask(command wireMessage, answer string) (wireMessage, error) {
	if err := w.send(command); err != nil {
		return wireMessage{}, err
	}
	for {
		m, err := w.receive()
		switch {
		case err != nil:
			return wireMessage{}, err
		case m.Type == answer:
			return m, nil
		case m.Type == "ERROR" && m.Error != nil:
			return wireMessage{}, fmt.Errorf("server error: %s: %s", m.Error.Error, w.scrub(m.Error.Message))
		case m.Type == "PING":
			if err := w.send(wireMessage{Type: "PONG", Pong: &struct{}{}}); err != nil {
				return wireMessage{}, err
			}
		}
	}
}

// A frame is its size, the command's size, both 32 bits, and the command.
func (w *wire) send(command wireMessage) error {
	text, err := json.Marshal(command)
	if err != nil {
		return fmt.Errorf("encode %s: %w", command.Type, err)
	}
	m, err := newCommand()
	if err != nil {
		return err
	}
	if err := protojson.Unmarshal(text, m); err != nil {
		return fmt.Errorf("encode %s: %w", command.Type, err)
	}
	frame, err := proto.MarshalOptions{}.MarshalAppend(make([]byte, 8), m)
	if err != nil {
		return fmt.Errorf("encode %s: %w", command.Type, err)
	}
	binary.BigEndian.PutUint32(frame, uint32(len(frame)-4))     //nolint:gosec // a few hundred bytes
	binary.BigEndian.PutUint32(frame[4:], uint32(len(frame)-8)) //nolint:gosec // a few hundred bytes
	if _, err := w.conn.Write(frame); err != nil {
		return fmt.Errorf("send %s: %w", command.Type, err)
	}
	return nil
}

func (w *wire) receive() (wireMessage, error) {
	var head [8]byte
	if _, err := io.ReadFull(w.conn, head[:]); err != nil {
		return wireMessage{}, fmt.Errorf("receive: %w", err)
	}
	frame, size := binary.BigEndian.Uint32(head[:]), binary.BigEndian.Uint32(head[4:])
	if frame < 4 || frame > wireMaxFrame || size > frame-4 {
		return wireMessage{}, fmt.Errorf("receive: frame of %d bytes with a command of %d: not a Pulsar broker?", frame, size)
	}
	body := make([]byte, frame-4)
	if _, err := io.ReadFull(w.conn, body); err != nil {
		return wireMessage{}, fmt.Errorf("receive: %w", err)
	}
	m, err := newCommand()
	if err != nil {
		return wireMessage{}, err
	}
	if err := proto.Unmarshal(body[:size], m); err != nil {
		return wireMessage{}, fmt.Errorf("receive: %w", err)
	}
	return readCommand(m)
}

// readCommand returns what a command of the client's type says.
func readCommand(m proto.Message) (wireMessage, error) {
	text, err := protojson.Marshal(m)
	if err != nil {
		return wireMessage{}, fmt.Errorf("receive: %w", err)
	}
	var answer wireMessage
	if err := json.Unmarshal(text, &answer); err != nil {
		return wireMessage{}, fmt.Errorf("receive: %w", err)
	}
	return answer, nil
}

func newCommand() (proto.Message, error) {
	t, err := protoregistry.GlobalTypes.FindMessageByName(wireCommand)
	if err != nil {
		return nil, fmt.Errorf("find the client's protocol messages: %w", err)
	}
	return t.New().Interface(), nil
}
