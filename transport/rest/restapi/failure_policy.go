package restapi

// FailurePolicy says how a queue handles failures. Its fields are those of the domain.
type FailurePolicy struct {
	NonRetryable []string `json:"non_retryable,omitempty" doc:"The kinds of errors that end a task, whatever retries are left" example:"[\"invalid_input\"]"`
}

// FailurePolicyMeta holds the settings of a FailurePolicy in a request; absent settings as in QueueMeta.
type FailurePolicyMeta struct {
	NonRetryable *[]string `json:"non_retryable,omitempty" doc:"The kinds of errors that end a task, whatever retries are left, at most 32; an empty list = none" example:"[\"invalid_input\"]"`
}
