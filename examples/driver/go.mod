module example.com/processdriver

go 1.26.0

require (
	github.com/google/uuid v1.6.0
	github.com/polyvisor/polyvisor v0.1.0
)

require (
	github.com/hashicorp/errwrap v1.0.0 // indirect
	github.com/hashicorp/go-multierror v1.1.1 // indirect
)

replace github.com/polyvisor/polyvisor => ../..
