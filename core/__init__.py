"""cadseg: segmenting neurons in terabyte-scale electron microscopy, block by block.

Folder F of the repository is imported as cadseg.F; core/ is cadseg itself. Imports go down only:

    pipeline           the whole volume: plan, layout, identity, run; cli/, a file per command
      execution        blocks of all steps, in processes: driver, server, workers; records, locks
    workers            one block: read, call one kernel, write; a file per kind of step;
                       what steps and runs are: step, kinds, stages, arrays, estimates, manifest;
                       a run's files: store, names, records, packs, lookup, writer, checkpoint
    models             the networks: raw → affinities, tile by tile; their weights; exported ones
      training         how they learn
    configs            with which numbers: a YAML file per kind of data
    core             = cadseg
      evaluation       segmentation and truth → scores, in blocks or in memory; pictures
      agglomeration    rows of the graph → the merge tree, and its cuts; scorings; the engine waterz
      graph            affinities and fragments → edges, and rows that go up the levels
      fragments        affinities → heights → fragments
      storage          arrays, tables and files of a run; volumes from anywhere
      config           the keys of a config, and how one is read
      documents        YAML that others wrote, within bounds
      renaming         ids that become others
      kernels          how numba compiles what loops over voxels and edges
      kernel_cache     where it keeps what it has compiled
      blocks           all arithmetic on boxes and on the grid
      arrays           names for the types of arrays
      errors           what a user can repair, each one sentence

How the method works is in docs/how-it-works.md, how to add to it in docs/extending.md.
"""

__version__: str


def __getattr__(name: str) -> str:
    """The version, once it is asked for: looking it up takes longer than starting Python.

    A run starts a dozen light processes that import this package and no version.
    """
    if name != "__version__":
        raise AttributeError(f"module {__name__} has no attribute {name}")
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("cadseg")
    except PackageNotFoundError:  # a source tree on the path, without an install
        return "0+unknown"
