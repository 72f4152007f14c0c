package queue

import "fmt"

// CheckReleased returns outs and err of a call of ReleaseTasks. When err is nil and no release succeeded, the error is that
// of the first release: a caller that checks only the error of the call then sees that nothing was released.
func CheckReleased(outs []Released, err error) ([]Released, error) {
	if err == nil {
		err = batchError(outs, func(r *Released) error { return r.Err })
	}
	return outs, err
}

// CheckBeats returns outs and err of a call of HeartbeatTasks, with an error when no heartbeat succeeded.
func CheckBeats(outs []Beat, err error) ([]Beat, error) {
	if err == nil {
		err = batchError(outs, func(b *Beat) error { return b.Err })
	}
	return outs, err
}

// batchError returns an error of the first failure's kind when all of outs failed, else nil.
func batchError[T any](outs []T, errOf func(*T) error) error {
	for i := range outs {
		if errOf(&outs[i]) == nil {
			return nil
		}
	}

	switch len(outs) {
	case 0:
		return nil
	case 1:
		return errOf(&outs[0])
	}
	first := errOf(&outs[0])
	return &Error{Kind: KindOf(first), Msg: fmt.Sprintf("all %d failed, the first with", len(outs)), Err: first}
}
