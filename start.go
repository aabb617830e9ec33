package polyvisor

// StartOption is an option of Domain.Start, Conn.Create and Conn.Restore. nil is
// none.
type StartOption func(*StartOptions)

// StartPaused leaves the started domain in state Paused, before the guest's first
// instruction (after a restore: where it was saved), so that a console can be
// opened or events be subscribed to before anything happens. Resume lets it
// run. Needs FeatureSuspend.
func StartPaused() StartOption { return func(o *StartOptions) { o.Paused = true } }

func startOptions(opts []StartOption) StartOptions {
	if len(opts) == 0 {
		return StartOptions{}
	}
	var o StartOptions
	for _, f := range opts {
		if f != nil {
			f(&o)
		}
	}
	return o
}

// need is what a driver must be able to do for the options.
func (o StartOptions) need() Feature {
	if o.Paused {
		return FeatureSuspend
	}
	return ""
}
