"""Compare policies on the same prompts: responses, scores, intervals, audit."""
