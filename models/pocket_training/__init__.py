"""How the pocket model is made: its vocabulary, its drawings, its training, its export and its grading."""
