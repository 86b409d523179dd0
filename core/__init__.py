"""cadseg: segmenting neurons in terabyte-scale electron microscopy, block by block.

Folder F of the repository is imported as cadseg.F; core/ is cadseg itself. Imports go down only:

    pipeline           the whole volume: stages, plan, run; cli/, a file per command
      execution        blocks of all steps, in processes: schedule, attempts, records, locks
    workers            one block: read, call one kernel, write; a file per kind of step
    models             the networks: raw → affinities, their weights
      training         how they learn
    configs            with which numbers: a YAML file per kind of data
    core             = cadseg
      evaluation       segmentation and truth → scores, in blocks or in memory; pictures
      agglomeration    rows of the graph → the merge tree, and its cuts; scorings; the engine waterz
      graph            affinities and fragments → edges, and rows that go up the levels
      fragments        affinities → heights → fragments
      storage          arrays, tables and files of a run; volumes from anywhere
      config, renaming
      blocks           all arithmetic on boxes and on the grid
      errors           what a user can repair, each one sentence

How the method works is in docs/how-it-works.md, how to add to it in docs/extending.md.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("cadseg")
except PackageNotFoundError:  # a source tree on the path, without an install
    __version__ = "0+unknown"
