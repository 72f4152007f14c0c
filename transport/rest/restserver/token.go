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
