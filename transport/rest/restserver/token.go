package restserver

import (
	"net/http"

	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
	"github.com/pgqueue/pgqueue/transport/rest/restserver/internal/input"
)

type (
	rotateTokenInput struct {
		input.Token
		Body input.Body[restapi.Rotation, access.Rotation]
	}
	auditInput struct {
		Since     input.Instant `query:"since" example:"2026-01-02T15:04:05Z" doc:"From this time on"`
		Until     input.Instant `query:"until" example:"2026-01-02T15:04:05Z" doc:"Before this time"`
		Principal string        `query:"principal" example:"4fJd8sKq" doc:"The id of a principal"`
		Action    string        `query:"action" example:"task.operate" doc:"A right"`
		Queue     string        `query:"queue" example:"mail" doc:"A queue"`
		Outcome   string        `query:"outcome" example:"permission_denied" doc:"ok, or the kind of an error"`
		Limit     input.Limit   `query:"limit" minimum:"1" maximum:"1000" example:"100" doc:"The most entries, 1 to 1000, default 100"`
		Cursor    string        `query:"cursor" example:"abc.1" doc:"The next of the page before"`
	}
	canInput struct {
		Action string `query:"action" example:"task.create" doc:"The right, as task.create"`
		Queue  string `query:"queue" example:"mail" doc:"A queue; absent = the namespace as a whole"`
	}
)

// registerTokens binds the operations on tokens and rights to their routes.
func (s *Server) registerTokens() {
	registerAdmin(s, operation{Route: restapi.ListTokens}, listTokens)
	registerAdmin(s, operation{
		Route: restapi.CreateToken, creates: true, status: http.StatusCreated,
		text: "The answer has the token itself, and no other answer ever does.",
	}, createToken)
	registerAdmin(s, operation{Route: restapi.RotateToken, creates: true, optionalBody: true, status: http.StatusCreated}, rotateToken)
	registerAdmin(s, operation{Route: restapi.RevokeToken, text: "Answers with the token as it is then."}, revokeToken)
	registerAdmin(s, operation{Route: restapi.WhoAmI}, showIdentity)
	registerAdmin(s, operation{Route: restapi.Can}, decideRight)
	registerAdmin(s, operation{Route: restapi.ListAudit, text: "Without a namespace it lists the entries of all."}, listAudit)
}

// registerAdmin binds an operation of access.Admin, which a server without tokens does not have.
func registerAdmin[In, Out any](s *Server, op operation, do func(*call, *In) (*Out, error)) {
	op.allow = func(*call) error {
		if s.cfg.Admin == nil {
			return access.ErrNoAdmin
		}
		return nil
	}
	registerOperation(s, op, do)
}

func listTokens(c *call, _ *struct{}) (*output[restapi.List[restapi.Token]], error) {
	tokens, err := c.cfg.Admin.ListTokens(c.requestContext())
	err = boundRows(c, tokens, err)
	return listOutput(restapi.TokenOf, tokens, err)
}

func createToken(c *call, in *input.With[restapi.TokenRequest, access.TokenRequest]) (*output[restapi.IssuedToken], error) {
	issued, err := c.cfg.Admin.CreateToken(c.requestContext(), in.Body.Value)
	return c.secretOutput(issued, err)
}

func rotateToken(c *call, in *rotateTokenInput) (*output[restapi.IssuedToken], error) {
	issued, err := c.cfg.Admin.RotateToken(c.requestContext(), in.ID, in.Body.Value)
	return c.secretOutput(issued, err)
}

// secretOutput answers with a new token. No cache may keep it.
func (c *call) secretOutput(issued access.IssuedToken, err error) (*output[restapi.IssuedToken], error) {
	c.w.Header().Set("Cache-Control", "no-store")
	return outputOf(restapi.IssuedTokenOf, issued, err)
}

func revokeToken(c *call, in *input.Token) (*output[restapi.Token], error) {
	token, err := c.cfg.Admin.RevokeToken(c.requestContext(), in.ID)
	return outputOf(restapi.TokenOf, token, err)
}

func showIdentity(c *call, _ *struct{}) (*output[restapi.Identity], error) {
	identity, err := c.cfg.Admin.WhoAmI(c.requestContext())
	return outputOf(restapi.IdentityOf, identity, err)
}

func decideRight(c *call, in *canInput) (*output[restapi.Decision], error) {
	allowed, err := c.cfg.Admin.Can(c.requestContext(), access.Question{
		Action: queue.Action(in.Action), Namespace: c.svc.Namespace(), Queue: in.Queue,
	})
	return outputOf(func(allowed bool) restapi.Decision { return restapi.Decision{Allowed: allowed} }, allowed, err)
}

func listAudit(c *call, in *auditInput) (*output[restapi.AuditPage], error) {
	page, err := c.cfg.Admin.ListAudit(c.requestContext(), access.AuditFilter{
		Since: in.Since.Value, Until: in.Until.Value, Principal: in.Principal, Action: queue.Action(in.Action), Namespace: namespaceOf(c.r),
		Queue: in.Queue, Outcome: in.Outcome, Limit: in.Limit.Value, Cursor: in.Cursor,
	})
	if err != nil {
		return nil, err
	}

	body := restapi.AuditPage{Body: restapi.Each(page.Entries, restapi.AuditEntryOf), Next: page.Next}
	if err := c.boundRead(body.Bytes()); err != nil {
		return nil, err
	}
	return &output[restapi.AuditPage]{Body: &body}, nil
}
