package restapi

// FailurePolicy says how a queue handles failures. Its fields are those of the domain.
type FailurePolicy struct {
	NonRetryable   []string `json:"non_retryable,omitempty" doc:"The kinds of errors that end a task, whatever retries are left" example:"[\"invalid_input\"]"`
	MaxLeaseLosses int      `json:"max_lease_losses" doc:"So many lost leases in a row end a task as quarantined, and a lost lease costs no retry; 0 = a lost lease is a failure like others" example:"3"`
	DeadLetter     string   `json:"dead_letter,omitempty" doc:"The queue that gets a task for each one that fails for good; absent = none" example:"mail-failed"`
}

// FailurePolicyMeta holds the settings of a FailurePolicy in a request; absent settings as in QueueMeta.
type FailurePolicyMeta struct {
	NonRetryable   *[]string `json:"non_retryable,omitempty" doc:"The kinds of errors that end a task, whatever retries are left, at most 32; an empty list = none" example:"[\"invalid_input\"]"`
	MaxLeaseLosses *int      `json:"max_lease_losses,omitempty" doc:"So many lost leases in a row end a task as quarantined, at most 100, and a lost lease costs no retry; 0 = a lost lease is a failure like others" example:"3"`
	DeadLetter     *string   `json:"dead_letter,omitempty" doc:"The queue of the namespace that gets a task for each one that fails for good; an empty text = none" example:"mail-failed"`
}
