"""What can be trained, one kind of networks in each file; all are a `cluster.training.task.Task`."""
