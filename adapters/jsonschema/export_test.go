package jsonschema

import "time"

// NewCompilerWithin returns a Compiler with another MaxCompileTime.
func NewCompilerWithin(d time.Duration) *Compiler {
	c := NewCompiler()
	c.maxTime = d
	return c
}

// TakeSlots takes all slots for compiles until the result is called.
func (c *Compiler) TakeSlots() (free func()) {
	for range MaxCompiles {
		c.slots <- struct{}{}
	}
	return func() {
		for range MaxCompiles {
			<-c.slots
		}
	}
}
