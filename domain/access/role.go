package access

import (
	"fmt"
	"slices"
	"strings"

	"github.com/pgqueue/pgqueue/domain/queue"
)

// Role is a named set of actions.
type Role string

// The roles.
const (
	// RoleProducer creates tasks and reads their results.
	RoleProducer Role = "producer"
	// RoleWorker retains, extends and releases tasks, and receives ticks.
	RoleWorker Role = "worker"
	// RoleObserver reads tasks without payloads, results, headers, progress and error texts.
	RoleObserver Role = "observer"
	// RoleViewer reads everything.
	RoleViewer Role = "viewer"
	// RoleOperator is a viewer that also creates, cancels, retries and deletes tasks, pauses queues and fires tickers.
	RoleOperator Role = "operator"
	// RoleAdmin has every right in its namespaces.
	RoleAdmin Role = "admin"
	// RoleSystem has every right in every namespace, and those of the installation: tokens, audit, diagnosis.
	RoleSystem Role = "system"
	// RoleMetrics reads metrics and the verbose readiness.
	RoleMetrics Role = "metrics"
)

// The groups of actions from which the roles are made.
var (
	selfActions = []queue.Action{queue.ActionAccessSelf}
	readActions = []queue.Action{
		queue.ActionTaskRead, queue.ActionQueueRead, queue.ActionTickerRead, queue.ActionEventRead, queue.ActionWorkerRead,
		queue.ActionNamespaceList,
	}
	contentActions = []queue.Action{queue.ActionTaskPayload, queue.ActionTaskResult}
	operateActions = []queue.Action{
		queue.ActionTaskCreate, queue.ActionTaskOperate, queue.ActionQueuePause, queue.ActionTickerRun,
	}
	workActions         = []queue.Action{queue.ActionTaskWork, queue.ActionTickerListen}
	manageActions       = []queue.Action{queue.ActionQueueManage, queue.ActionTickerManage}
	installationActions = []queue.Action{queue.ActionSystemRead, queue.ActionAccessManage, queue.ActionAuditRead}
)

// roles is the table of roles, from the least to the most rights.
var roles = []struct {
	role    Role
	actions []queue.Action
}{
	{RoleMetrics, slices.Concat(selfActions, []queue.Action{queue.ActionSystemRead})},
	{RoleProducer, slices.Concat(selfActions, []queue.Action{
		queue.ActionTaskCreate, queue.ActionTaskResult, queue.ActionQueueRead, queue.ActionNamespaceList,
	})},
	{RoleWorker, slices.Concat(selfActions, workActions, []queue.Action{queue.ActionQueueRead, queue.ActionNamespaceList})},
	{RoleObserver, slices.Concat(selfActions, readActions)},
	{RoleViewer, slices.Concat(selfActions, readActions, contentActions)},
	{RoleOperator, slices.Concat(selfActions, readActions, contentActions, operateActions)},
	{RoleAdmin, slices.Concat(selfActions, readActions, contentActions, operateActions, workActions, manageActions)},
	{RoleSystem, slices.Concat(
		selfActions, readActions, contentActions, operateActions, workActions, manageActions, installationActions,
	)},
}

// Roles lists every role, from the least to the most rights.
func Roles() []Role {
	names := make([]Role, len(roles))
	for i, row := range roles {
		names[i] = row.role
	}
	return names
}

// Actions returns the actions of the role; none for an unknown role.
func (r Role) Actions() []queue.Action {
	for _, row := range roles {
		if row.role == r {
			return slices.Clone(row.actions)
		}
	}
	return nil
}

// forInstallation reports whether the rights of r belong to no namespace.
func (r Role) forInstallation() bool { return r == RoleSystem || r == RoleMetrics }

// parseRole returns the role called name, or KindInvalid.
func parseRole(name string) (Role, error) {
	known := Roles()
	if role := Role(name); slices.Contains(known, role) {
		return role, nil
	}

	list := make([]string, len(known))
	for i, role := range known {
		list[i] = string(role)
	}
	return "", queue.Invalid("grant", fmt.Sprintf("must start with one of the roles %s, got %.64q; choose one", strings.Join(list, ", "), name))
}

// actionSet holds actions, one bit each.
type actionSet uint32

// actionBits has the bit of each action. An unknown action has none.
var actionBits = makeActionBits()

func makeActionBits() map[queue.Action]actionSet {
	bits := map[queue.Action]actionSet{}
	for i, a := range RoleSystem.Actions() {
		bits[a] = 1 << i
	}
	return bits
}

// collectActions returns the actions of r as a set.
func collectActions(r Role) actionSet {
	var set actionSet
	for _, a := range r.Actions() {
		set |= actionBits[a]
	}
	return set
}
