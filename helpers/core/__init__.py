"""What has nothing to do with language models: errors, files, progress, GPUs, processes, statistics, W&B."""
