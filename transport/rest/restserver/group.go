package restserver

import (
	"github.com/pgqueue/pgqueue/domain/queue"
	"github.com/pgqueue/pgqueue/transport/rest/restapi"
	"github.com/pgqueue/pgqueue/transport/rest/restserver/internal/input"
)

type (
	listGroupsInput struct {
		input.Named
		Group  string      `query:"group" example:"tenant-7" doc:"One group, also one without tasks"`
		Limit  input.Limit `query:"limit" minimum:"1" maximum:"1000" example:"100" doc:"The most groups, 1 to 1000, default 100"`
		Cursor string      `query:"cursor" example:"MTIz" doc:"The next of the page before"`
	}
	updateGroupInput struct {
		input.Grouped
		Body input.Body[restapi.GroupMeta, queue.GroupMeta]
	}
)

// registerGroups binds the operations of groups to their routes.
func (s *Server) registerGroups() {
	registerOperation(s, operation{Route: restapi.ListGroups}, listGroups)
	registerOperation(s, operation{Route: restapi.UpdateGroup}, updateGroup)
	registerOperation(s, operation{Route: restapi.UnblockGroup}, unblockGroup)
}

func listGroups(c *call, in *listGroupsInput) (*output[restapi.List[restapi.Group]], error) {
	page, err := c.svc.ListGroups(c.requestContext(), string(in.Name), queue.GroupQuery{Name: in.Group, Limit: in.Limit.Value, Cursor: in.Cursor})
	err = boundRows(c, page.Groups, err)
	return outputOf(func(p queue.GroupPage) restapi.List[restapi.Group] {
		return restapi.List[restapi.Group]{Count: int64(len(p.Groups)), Body: restapi.Each(p.Groups, restapi.GroupOf), Next: p.Next}
	}, page, err)
}

func updateGroup(c *call, in *updateGroupInput) (*output[restapi.Group], error) {
	g, err := c.svc.UpdateGroup(c.requestContext(), string(in.Name), in.Group, in.Body.Value)
	return outputOf(restapi.GroupOf, g, err)
}

func unblockGroup(c *call, in *input.Grouped) (*output[restapi.Group], error) {
	g, err := c.svc.UnblockGroup(c.requestContext(), string(in.Name), in.Group)
	return outputOf(restapi.GroupOf, g, err)
}
