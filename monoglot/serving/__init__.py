"""What answers: the index, the releases and the retriever."""
