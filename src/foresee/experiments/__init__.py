"""Many runs: comparisons, sweeps, studies, diagnosis of a data set, the demo."""
