package access

import (
	"fmt"
	"strings"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// MaxGrants is the largest number of grants of one principal.
const MaxGrants = 100

// Grant gives the actions of a role in one namespace or in all, there in all queues or in some.
type Grant struct {
	Role Role
	// Namespace is a name, or "*" for every namespace.
	Namespace string
	// Queue is the name of a queue, a start of names with a final "*", or "" for every queue.
	Queue string
}

// ParseGrant reads "role@namespace" or "role@namespace/queue". Names are trimmed and lower-cased as everywhere. The roles
// system and metrics take the namespace "*" and no queue, because their rights belong to the installation. KindInvalid for
// everything else.
func ParseGrant(text string) (Grant, error) {
	name, where, ok := strings.Cut(strings.TrimSpace(text), "@")
	if !ok {
		return Grant{}, queue.Invalid("grant", fmt.Sprintf("must have the form role@namespace or role@namespace/queue, got %.200q; write viewer@default", text))
	}

	role, err := parseRole(name)
	if err != nil {
		return Grant{}, err
	}

	namespace, pattern, hasQueue := strings.Cut(where, "/")
	g := Grant{Role: role, Namespace: namespace}
	if namespace != "*" {
		if g.Namespace, err = queue.NamespaceName(namespace); err != nil {
			return Grant{}, atGrant(err, text)
		}
	}

	// A narrower form would read as a limit that the role does not have.
	if role.forInstallation() && (namespace != "*" || hasQueue) {
		return Grant{}, queue.Invalid("grant", fmt.Sprintf("must be %s@*, because the role belongs to no namespace, got %.200q; leave out the rest", role, text))
	}

	if hasQueue {
		if g.Queue, err = parsePattern(pattern); err != nil {
			return Grant{}, atGrant(err, text)
		}
	}
	return g, nil
}

// ParseGrants reads each grant of texts. KindInvalid for none, for more than [MaxGrants], or for a wrong one.
func ParseGrants(texts []string) ([]Grant, error) {
	if len(texts) == 0 || len(texts) > MaxGrants {
		return nil, queue.Invalid("grants", fmt.Sprintf("must be 1 to %d grants, got %d; name at least one role", MaxGrants, len(texts)))
	}

	grants := make([]Grant, len(texts))
	for i, text := range texts {
		g, err := ParseGrant(text)
		if err != nil {
			return nil, err
		}
		grants[i] = g
	}
	return grants, nil
}

// ParseKnownGrants returns the grants of texts that this version knows. The others, as of a newer version, give no rights.
func ParseKnownGrants(texts []string) []Grant {
	grants := make([]Grant, 0, len(texts))
	for _, text := range texts {
		if g, err := ParseGrant(text); err == nil {
			grants = append(grants, g)
		}
	}
	return grants
}

// FormatGrants returns each grant as ParseGrant reads it.
func FormatGrants(grants []Grant) []string {
	texts := make([]string, len(grants))
	for i, g := range grants {
		texts[i] = g.String()
	}
	return texts
}

// parsePattern reads the name of a queue, or the start of names with a final "*". "*" alone is refused: a grant without a
// queue says the same, and the two would look different in a list.
func parsePattern(text string) (string, error) {
	start, isStart := strings.CutSuffix(text, "*")
	if isStart && start == "" {
		return "", queue.Invalid("queue", fmt.Sprintf("must be a name or the start of names with a final \"*\", got %.64q; leave out the queue for all queues", text))
	}

	name, err := queue.QueueName(start)
	if err != nil {
		return "", err
	}
	if isStart {
		name += "*"
	}
	return name, nil
}

// atGrant returns err as an error of the grant in text.
func atGrant(err error, text string) error {
	return queue.Invalid("grant", fmt.Sprintf("must be a role in a namespace by its name, got %.200q; mend it: %v", text, err))
}

// String returns the form that [ParseGrant] reads.
func (g Grant) String() string {
	text := string(g.Role) + "@" + g.Namespace
	if g.Queue != "" {
		text += "/" + g.Queue
	}
	return text
}

// coversNamespace reports whether the grant holds in namespace.
func (g Grant) coversNamespace(namespace string) bool {
	return g.Namespace == "*" || g.Namespace == namespace
}

// matchesPattern reports whether name equals pattern, or starts with the text before its final "*".
func matchesPattern(pattern, name string) bool {
	if start, ok := strings.CutSuffix(pattern, "*"); ok {
		return strings.HasPrefix(name, start)
	}
	return pattern == name
}
