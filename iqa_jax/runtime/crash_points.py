"""The names that IQA_JAX_CRASH_AT=name:n knows: every point at which a drill can kill a run."""

# Those that one commit passes, in order.
COMMIT = (
    *(f'artifacts.data.{point}' for point in ('before_write', 'half_written', 'written', 'synced')),
    *(f'artifacts.meta.{point}' for point in ('before_write', 'half_written', 'written', 'synced')),
    *('artifacts.meta.renamed', 'artifacts.meta.folder_synced'),
    *('artifacts.data.renamed', 'artifacts.data.folder_synced'),
)
DRAFT = ('artifacts.draft.synced', 'artifacts.draft.renamed')
CHECKPOINT = tuple(
    f'checkpoints.{point}'
    for point in ('before_save', 'saved', 'digested', 'committed', 'removed_old')
)
STAGES = (
    'make_data.shard',
    'train.checkpoint',
    'train_denoiser.checkpoint',
    'score.shard',
    'score_pairs.shard',
    'split.shard',
    'active.phase',
)
ALL = (*COMMIT, *DRAFT, *CHECKPOINT, *STAGES)
