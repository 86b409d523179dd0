"""All blocks of all steps, in order, on many processes: started, followed, retried, recorded.

The processes of a run, and what lives in each, from the user's down::

    driver      the user's command           driver  watch  outcome  progress  lock  serial
                                             repair  done  waves  guard  verify
    server      holds daisy, the queue       server
    stub        daisy's, one per worker      stub
    worker      computes blocks              worker  attempt

`launcher` is the seam between the server and its workers, and `local` what implements it on one
machine, with `forkserver`. `records`, `reports` and `notes`, in the run's folder, are all that the
processes tell each other about blocks; `status` reads them where nothing runs.
"""
