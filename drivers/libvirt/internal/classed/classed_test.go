package classed

import (
	"errors"
	"io"
	"testing"

	"github.com/stretchr/testify/assert"
)

func TestClassed(t *testing.T) {
	one, other := errors.New("one"), errors.New("other")
	err := Errorf(one, "the daemon says: %w", io.EOF)
	assert.Equal(t, "the daemon says: EOF", err.Error())
	assert.ErrorIs(t, err, one)
	assert.ErrorIs(t, err, io.EOF)

	err = As(other, err)
	assert.Equal(t, "the daemon says: EOF", err.Error())
	assert.ErrorIs(t, err, other)
	assert.ErrorIs(t, err, io.EOF)
	assert.NotErrorIs(t, err, one, "an error has one class")
}
