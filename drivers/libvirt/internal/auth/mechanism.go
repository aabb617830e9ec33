package auth

import (
	"strconv"
	"strings"

	"github.com/xdg-go/scram"
)

const plain = "PLAIN"

// mechanisms are the known ones, best first.
var mechanisms = []string{"SCRAM-SHA-512", "SCRAM-SHA-256", "SCRAM-SHA-1", plain}

var scrams = map[string]scram.HashGeneratorFcn{"SCRAM-SHA-512": scram.SHA512, "SCRAM-SHA-256": scram.SHA256, "SCRAM-SHA-1": scram.SHA1}

// maxIterations bounds the work that a daemon may ask of us. Cyrus SASL asks for
// 4,096, and what is recommended today is below a million.
const maxIterations = 4_000_000

// mechanism is a client's side of a SASL exchange.
type mechanism interface {
	start() ([]byte, error)
	step(challenge []byte) ([]byte, error)
	// done reports whether all was said, and the server has proved itself if
	// the mechanism has that.
	done() bool
}

func newMechanism(name, user, password string) (mechanism, error) {
	if name == plain {
		if strings.ContainsRune(user+password, 0) {
			return nil, fail(ErrConfig, "SASL PLAIN: a zero byte in user or password")
		}
		return &plainMechanism{user, password}, nil
	}
	client, err := scrams[name].NewClient(user, password, "")
	if err != nil {
		// The library's error may repeat what is wrong.
		return nil, fail(ErrConfig, "SASL %s: user or password has characters that SASLprep (RFC 4013) forbids", name)
	}
	return &scramMechanism{name: name, conversation: client.NewConversation()}, nil
}

// plainMechanism is RFC 4616: all in one message.
type plainMechanism struct{ user, password string }

func (m *plainMechanism) start() ([]byte, error) {
	return []byte("\x00" + m.user + "\x00" + m.password), nil
}

func (m *plainMechanism) step([]byte) ([]byte, error) {
	return nil, fail(ErrDenied, "SASL PLAIN: the daemon asks for more than there is")
}

func (m *plainMechanism) done() bool { return true }

// scramMechanism is RFC 5802.
type scramMechanism struct {
	name         string
	conversation *scram.ClientConversation
}

func (m *scramMechanism) start() ([]byte, error) {
	s, err := m.conversation.Step("")
	return []byte(s), err
}

func (m *scramMechanism) step(challenge []byte) ([]byte, error) {
	if n := iterations(string(challenge)); n > maxIterations {
		return nil, fail(ErrDenied, "SASL %s: the daemon asks for %d iterations, the limit is %d", m.name, n, maxIterations)
	}
	s, err := m.conversation.Step(string(challenge))
	if err != nil {
		// Its text is in part the daemon's.
		return nil, fail(ErrDenied, "SASL %s: the daemon's answer is wrong (%s); is the password right?", m.name, clean(err.Error()))
	}
	if s == "" {
		return nil, nil
	}
	return []byte(s), nil
}

func (m *scramMechanism) done() bool { return m.conversation.Done() && m.conversation.Valid() }

// iterations gives the count in a server's first message, 0 in others.
func iterations(challenge string) int {
	for field := range strings.SplitSeq(challenge, ",") {
		if digits, ok := strings.CutPrefix(field, "i="); ok {
			n, err := strconv.Atoi(digits)
			if err != nil && len(digits) > 9 {
				return maxIterations + 1
			}
			return n
		}
	}
	return 0
}
