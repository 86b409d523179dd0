"""All blocks of all steps, in order, on many processes: started, followed, retried, recorded."""
