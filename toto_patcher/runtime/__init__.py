"""What production code imports: compile configuration, pipeline, warm-up, monitor. Knows torch, never libcst."""
