package restapi

import "github.com/pgqueue/pgqueue/domain/queue"

// Finding is one line of an examination of the store.
type Finding struct {
	Name   string `json:"name" doc:"The check; stable" example:"fsync"`
	Level  string `json:"level" enum:"ok,warn,fail" doc:"How it is" example:"ok"`
	Value  string `json:"value" doc:"The value found" example:"on"`
	Advice string `json:"advice,omitempty" doc:"What to do; absent when all is well" example:"set it to on"`
}

// FindingOf converts f for the wire.
func FindingOf(f queue.Finding) Finding {
	return Finding{Name: f.Name, Level: string(f.Level), Value: f.Value, Advice: f.Advice}
}
