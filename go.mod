module github.com/polyvisor/polyvisor

go 1.25.0

require (
	github.com/google/uuid v1.6.0
	github.com/hashicorp/go-multierror v1.1.1
)

require (
	github.com/stretchr/testify v1.12.1
	go.yaml.in/yaml/v3 v3.0.5 // indirect
)

require (
	github.com/hashicorp/errwrap v1.0.0 // indirect
	go.uber.org/goleak v1.3.0
)
