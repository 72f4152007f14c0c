package restserver

import (
	"net/http"

	"github.com/pgqueue/pgqueue/domain/access"
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
	"github.com/pgqueue/pgqueue/transport/rest/restserver/internal/input"
)

type (
	createTokenInput struct {
		Body input.Body[restapi.TokenRequest, access.TokenRequest]
	}
	rotateTokenInput struct {
		input.Token
		Body input.Body[restapi.Rotation, access.Rotation]
	}
	auditInput struct {
		Since     input.Instant `query:"since" example:"2026-01-02T15:04:05Z" doc:"From this time on"`
		Until     input.Instant `query:"until" example:"2026-01-02T15:04:05Z" doc:"Before this time"`
		Principal string        `query:"principal" example:"4fJd8sKq" doc:"The id of a principal"`
		Action    string        `query:"action" example:"task.operate" doc:"A right"`
		Outcome   string        `query:"outcome" example:"denied" doc:"ok, or the kind of an error"`
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
	registerOperation(s, operation{Route: restapi.ListTokens}, listTokens)
	registerOperation(s, operation{
		Route: restapi.CreateToken, creates: true, status: http.StatusCreated,
		text: "The answer has the token itself, and no other answer ever does.",
	}, createToken)
	registerOperation(s, operation{Route: restapi.RotateToken, creates: true, optionalBody: true, status: http.StatusCreated}, rotateToken)
	registerOperation(s, operation{Route: restapi.RevokeToken, text: "Answers with the token as it is then."}, revokeToken)
	registerOperation(s, operation{Route: restapi.WhoAmI}, showIdentity)
	registerOperation(s, operation{Route: restapi.Can}, decideRight)
	registerOperation(s, operation{Route: restapi.ListAudit, text: "Without a namespace it lists the entries of all."}, listAudit)
}

// tokens returns the operations on tokens, or an error for a server without them.
func (c *call) tokens() (access.Admin, error) {
	if c.cfg.Admin == nil {
		return nil, &queue.Error{Kind: queue.KindNotFound, Msg: "this server keeps no tokens; use one of pgqueue run"}
	}
	return c.cfg.Admin, nil
}

func listTokens(c *call, _ *struct{}) (*output[restapi.List[restapi.Token]], error) {
	admin, err := c.tokens()
	if err != nil {
		return nil, err
	}
	tokens, err := admin.ListTokens(c.requestContext())
	return listOutput(restapi.TokenOf, tokens, err)
}

func createToken(c *call, in *createTokenInput) (*output[restapi.IssuedToken], error) {
	admin, err := c.tokens()
	if err != nil {
		return nil, err
	}
	request, err := in.Body.Value()
	if err != nil {
		return nil, err
	}
	issued, err := admin.CreateToken(c.requestContext(), request)
	return c.secretOutput(issued, err)
}

func rotateToken(c *call, in *rotateTokenInput) (*output[restapi.IssuedToken], error) {
	admin, err := c.tokens()
	if err != nil {
		return nil, err
	}
	rotation, err := in.Body.Optional()
	if err != nil {
		return nil, err
	}
	issued, err := admin.RotateToken(c.requestContext(), in.ID, rotation)
	return c.secretOutput(issued, err)
}

// secretOutput answers with a new token. No cache may keep it.
func (c *call) secretOutput(issued access.IssuedToken, err error) (*output[restapi.IssuedToken], error) {
	c.w.Header().Set("Cache-Control", "no-store")
	return outputOf(restapi.IssuedTokenOf, issued, err)
}

func revokeToken(c *call, in *input.Token) (*output[restapi.Token], error) {
	admin, err := c.tokens()
	if err != nil {
		return nil, err
	}
	token, err := admin.RevokeToken(c.requestContext(), in.ID)
	return outputOf(restapi.TokenOf, token, err)
}

func showIdentity(c *call, _ *struct{}) (*output[restapi.Identity], error) {
	admin, err := c.tokens()
	if err != nil {
		return nil, err
	}
	identity, err := admin.WhoAmI(c.requestContext())
	return outputOf(restapi.IdentityOf, identity, err)
}

func decideRight(c *call, in *canInput) (*output[restapi.Decision], error) {
	admin, err := c.tokens()
	if err != nil {
		return nil, err
	}
	allowed, err := admin.Can(c.requestContext(), access.Question{
		Action: queue.Action(in.Action), Namespace: c.svc.Namespace(), Queue: in.Queue,
	})
	return outputOf(func(allowed bool) restapi.Decision { return restapi.Decision{Allowed: allowed} }, allowed, err)
}

func listAudit(c *call, in *auditInput) (*output[restapi.AuditPage], error) {
	admin, err := c.tokens()
	if err != nil {
		return nil, err
	}
	page, err := admin.ListAudit(c.requestContext(), access.AuditFilter{
		Since: in.Since.Value, Until: in.Until.Value, Principal: in.Principal, Action: queue.Action(in.Action), Namespace: namespaceOf(c.r),
		Outcome: in.Outcome, Limit: in.Limit.Value, Cursor: in.Cursor,
	})
	return outputOf(func(p access.AuditPage) restapi.AuditPage {
		return restapi.AuditPage{Body: mapSlice(p.Entries, restapi.AuditEntryOf), Next: p.Next}
	}, page, err)
}
