module github.com/polyvisor/polyvisor

go 1.26.0

require (
	github.com/google/uuid v1.6.0
	github.com/hashicorp/go-multierror v1.1.1
	github.com/stretchr/testify v1.12.1
)

require (
	github.com/creack/pty v1.1.24 // indirect
	github.com/inconshreveable/mousetrap v1.1.0 // indirect
	github.com/spf13/cobra v1.10.2 // indirect
	github.com/spf13/pflag v1.0.9 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
	golang.org/x/term v0.47.0 // indirect
)

require (
	github.com/hashicorp/errwrap v1.0.0 // indirect
	go.uber.org/goleak v1.3.0
	golang.org/x/sys v0.49.0
)
